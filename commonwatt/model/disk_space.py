"""Limits of free disk space for every service that stores data."""

LOW_BYTES = 8 * 1024 * 1024  # free bytes below which a service accepts no more readings
ENOUGH_BYTES = 16 * 1024 * 1024  # free bytes from which it accepts readings again
