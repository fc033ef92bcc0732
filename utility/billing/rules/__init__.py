"""How a bill follows from settled energy: sums, policies, lines (pure)."""
