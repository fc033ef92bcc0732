"""Time: with its trust, as text, and as local days and months; the clocks of a machine."""
