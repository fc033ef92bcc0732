"""What the database has of one household."""
