"""What the utility does by itself, period by period."""
