"""From an MQTT message to samples: topics, payloads, times and presets."""
