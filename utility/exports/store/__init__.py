"""What exports read of the database, and the files that they write."""
