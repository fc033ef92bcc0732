"""Missing slots: found, asked for again, and counted."""
