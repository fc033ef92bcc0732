"""Commands of the control."""
