"""What analysis reads of a town, and the closed database that SQL runs in."""
