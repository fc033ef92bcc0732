"""PostgreSQL only: partitions, commits without an answer, the state of pgBackRest's backups."""
