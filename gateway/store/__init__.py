"""The gateway's SQLite store: all of its SQL, its recovery and its upkeep."""
