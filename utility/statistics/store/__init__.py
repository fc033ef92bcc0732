"""SQL of the statistics."""
