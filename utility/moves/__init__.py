"""Moves: readings at the date, final bills, the next account."""
