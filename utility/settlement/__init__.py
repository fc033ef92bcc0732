"""Settlement: the energy of each meter and quarter-hour, and who shared with whom."""
