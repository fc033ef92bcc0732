"""Readings: taken in, judged, stored, compacted, completed."""
