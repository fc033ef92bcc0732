"""SQL of the settlement."""
