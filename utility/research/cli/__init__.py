"""Commands of the research."""
