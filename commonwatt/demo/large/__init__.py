"""A town of hundreds of microgrids: which processes serve them, the servers of other makers, its draining."""
