"""What the database has of the controllers of a town."""
