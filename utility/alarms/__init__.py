"""Alarms: what needs a person, by Prometheus's Alertmanager or by the utility itself, silenced and acknowledged."""
