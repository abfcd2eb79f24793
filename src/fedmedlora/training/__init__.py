"""One site, one round: batches, loss, optimizer steps."""
