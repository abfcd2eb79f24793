"""Watching a run: in the terminal, on a page of this machine, and as metrics."""
