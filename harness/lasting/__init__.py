"""How well the hours without the line are projected: feeders cut at random moments of a year, and what happened."""
