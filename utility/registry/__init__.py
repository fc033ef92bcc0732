"""The registry: controllers, meters, accounts and their dates."""
