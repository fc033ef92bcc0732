"""What parties say to each other over MQTT: topics, messages, batches, commands, dead letters."""
