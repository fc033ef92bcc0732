"""Takes messages from the connection to the database: a queue, checks, one writing thread."""
