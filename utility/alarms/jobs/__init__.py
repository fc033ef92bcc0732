"""What asks Alertmanager."""
