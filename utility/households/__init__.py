"""A household's own home: its day, its bills, its files."""
