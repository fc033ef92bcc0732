"""The database: opened, migrated, backed up, restored, checked for damage."""
