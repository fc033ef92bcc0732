"""A household's own data as files."""
