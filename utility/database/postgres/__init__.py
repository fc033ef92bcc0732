"""PostgreSQL only: partitions, and backups by its own programs."""
