"""From stored readings to findings and proposed estimates, and what people decide on them (pure; B4)."""
