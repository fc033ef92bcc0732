"""A cluster of databases on machines of a bench (docs/cluster.md)."""
