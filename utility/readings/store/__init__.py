"""SQL of the readings."""
