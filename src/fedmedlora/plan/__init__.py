"""What a study will take: parameters, traffic, memory and time, before anything runs."""
