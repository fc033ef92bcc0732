"""Interval blocks as bytes: packing, payloads, dumps."""
