"""Cliques of controllers, which take over microgrids from each other: their members and signs of life."""
