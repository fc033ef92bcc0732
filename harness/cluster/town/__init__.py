"""A town of real processes on a cluster, and what becomes of its readings when something fails."""
