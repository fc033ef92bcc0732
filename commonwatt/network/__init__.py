"""Connections: MQTT, TLS, HTTP, addresses, liveness, bytes on the LTE line."""
