"""Jobs of the settlement."""
