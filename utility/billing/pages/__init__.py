"""Pages of the billing."""
