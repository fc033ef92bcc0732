"""What a replay reads: the town as it was on a day, and each day's readings and settled energy."""
