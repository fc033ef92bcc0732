"""SQL of the supply."""
