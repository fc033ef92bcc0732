"""The energy state of one place for the household's Home Assistant, outwards only (docs/adapters.md)."""
