"""Backup and restore of an SQLite database."""
