"""A log of what was asked, what left and what was refused, which shows changes; and an adapter's passport."""
