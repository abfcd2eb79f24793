"""The BERT-type baseline: an encoder with a decision per token and type, trained in full."""
