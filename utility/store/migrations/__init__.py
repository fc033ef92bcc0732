"""Migrations of the schema, applied by ``utility.store.schema``."""
