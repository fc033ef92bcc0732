"""Commands of the billing."""
