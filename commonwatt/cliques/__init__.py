"""Cliques of controllers that manage each other's microgrids: who is in them, and their signs of life."""
