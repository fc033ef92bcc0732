"""SQL of the control."""
