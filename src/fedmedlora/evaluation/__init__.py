"""Predicted and gold notes to counts, and counts to F1 with intervals."""
