"""Missing slots: found, requested again, and counted."""
