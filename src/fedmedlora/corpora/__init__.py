"""Annotated notes: the schema, notes on disk, splits, and synthetic cohorts."""
