"""A month of a town from a scenario to issued bills."""
