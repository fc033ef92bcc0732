"""Tariffs, policies of billing, runs and bills (U2, A9, P5): pure."""
