"""Checks of readings by day: which are likely wrong, and why (docs/billing.md)."""
