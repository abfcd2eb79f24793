"""What is let in at the coordinator."""
