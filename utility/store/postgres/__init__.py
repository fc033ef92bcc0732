"""What only PostgreSQL has: partitions, and its own programs for backups."""
