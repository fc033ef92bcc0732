"""Relays data to the utility, and carries out the utility's commands."""
