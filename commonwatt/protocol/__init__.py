"""The MQTT protocol: topics, messages, batches, commands, dead letters."""
