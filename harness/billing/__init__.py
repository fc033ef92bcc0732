"""Billing, for tests and benchmarks: random towns with settled quarter-hours, a plain calculation of their bills."""
