"""Estimates for missing readings: by balance, by interpolation, by like days; scaled (docs/billing.md)."""
