"""Accepts the meters' puts."""
