"""SQL of the overview."""
