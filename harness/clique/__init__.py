"""The rules of takeover: every interleaving of a small clique, and real controllers (docs/controllers.md)."""
