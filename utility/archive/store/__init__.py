"""The archive's SQL and files."""
