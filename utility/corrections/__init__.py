"""Validation of readings, and corrections of what is missing or wrong."""
