"""Alarms: conditions, their life, silences, and calls."""
