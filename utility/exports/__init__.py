"""Exports: readings, events, settled quarter-hours and bills as Parquet, CSV, JSON lines and Green Button (U7)."""
