"""Releases for researchers, and attacks on them."""
