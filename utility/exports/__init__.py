"""Exports of stored data as files."""
