"""The gateway's time and its trust."""
