"""SQLite files: damage found, the write-ahead log read, a reopened file synchronised."""
