"""Commands of the readings."""
