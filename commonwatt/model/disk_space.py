"""How much disk space is little, for every service that stores something."""

LOW_BYTES = 8 * 1024 * 1024
"""With less disk space than this a service takes in no more readings."""

ENOUGH_BYTES = 16 * 1024 * 1024
"""With this much again, it does."""
