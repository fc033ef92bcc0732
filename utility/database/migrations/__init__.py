"""Migrations of the schema, applied by ``utility.database.migrate``."""
