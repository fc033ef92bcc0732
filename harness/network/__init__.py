"""Connections under test: raw MQTT, proxies, networks of one's own, free ports."""
