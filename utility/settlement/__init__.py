"""Settlement of the town: from stored blocks and the registry to settled days (pure)."""
