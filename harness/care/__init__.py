"""Measures of the care for controllers from afar."""
