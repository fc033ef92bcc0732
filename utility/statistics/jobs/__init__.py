"""Jobs of the statistics."""
