"""The town: its file, its places and meters, and the registry of one microgrid."""
