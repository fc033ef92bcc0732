"""SQLite files: detect damage, read the write-ahead log, synchronise a reopened file."""
