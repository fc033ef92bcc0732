"""Foreign meters by MQTT topic: what they publish becomes records of our meters (K5, M9; docs/adapters.md)."""
