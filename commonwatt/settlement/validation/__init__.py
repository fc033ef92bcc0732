"""Checks of readings by day: which are likely wrong, and why (docs/corrections.md)."""
