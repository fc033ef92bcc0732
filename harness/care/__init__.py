"""Upgrades of real gateways, with faults at random moments."""
