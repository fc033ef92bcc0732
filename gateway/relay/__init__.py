"""Sends to the utility, and does what the utility asks."""
