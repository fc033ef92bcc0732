"""Which controller collects each meter's data (A1)."""
