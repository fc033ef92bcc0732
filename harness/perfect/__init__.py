"""Scenarios beside the least that goes short under perfect knowledge of the future: a linear program of every home."""
