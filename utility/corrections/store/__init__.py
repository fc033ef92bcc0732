"""SQL of the corrections."""
