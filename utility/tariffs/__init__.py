"""Tariffs: their files, versions, and what controllers are sent of them."""
