"""Backups of the whole database, and their restore."""
