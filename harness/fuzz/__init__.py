"""Broken and hostile input."""
