"""Tests with broken and hostile input."""
