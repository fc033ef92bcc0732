"""Small worlds for tests of one part."""
