"""Configuration files: settings, their checks and their documentation."""
