"""Migrations of the schema, applied by ``utility.store.migrate``."""
