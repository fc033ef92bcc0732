"""People, their roles, and how a request proves whose it is."""
