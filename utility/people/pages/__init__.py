"""Pages of the people."""
