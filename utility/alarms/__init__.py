"""Alarms: conditions, their life, silences, and Alertmanager."""
