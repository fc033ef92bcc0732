"""The database: opened, migrated, checked for damage."""
