"""The utility's API and its page."""
