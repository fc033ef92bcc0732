"""Statements of the people of accounts."""
