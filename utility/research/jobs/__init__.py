"""Makes releases: from readings to a folder of files."""
