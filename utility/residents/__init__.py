"""What one account sees of its own: energy, battery, what it gave and got by sharing, its bill so far (T6, U2)."""
