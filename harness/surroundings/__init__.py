"""Surroundings for tests of one part."""
