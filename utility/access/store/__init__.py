"""SQL of the access."""
