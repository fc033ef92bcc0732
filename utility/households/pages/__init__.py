"""Pages of the households."""
