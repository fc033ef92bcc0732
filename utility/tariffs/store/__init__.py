"""SQL of the tariffs."""
