"""Tariffs: the TOML that people write, its checks, and the prices of quarter-hours."""
