"""What is looked at before a site's first round: one file per kind, each finding with what to do about it."""
