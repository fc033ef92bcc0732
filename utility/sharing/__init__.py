"""Sharing as it is recorded for each microgrid and quarter-hour: from stored readings to who gave and received."""
