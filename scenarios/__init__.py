"""Scenarios: the town's physics, control and supply run together over days, without messaging, and are compared."""
