"""Takeover: which controller of a clique manages a microgrid, decided without the utility if need be."""
