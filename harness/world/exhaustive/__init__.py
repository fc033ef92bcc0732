"""Small worlds of real cores, visited state by state; the worlds of seeds have all that is too much for that."""
