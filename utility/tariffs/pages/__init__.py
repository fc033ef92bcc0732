"""Pages of tariffs."""
