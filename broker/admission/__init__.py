"""Admits connections: listener, TLS, CONNECT, known devices."""
