"""Usage by month, quarter, year and five years, and projections."""
