"""From the connection to the database: queues, checks, one writing thread."""
