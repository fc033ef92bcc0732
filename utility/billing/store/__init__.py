"""SQL of the billing."""
