"""Usage by month, quarter, year and five years, and what may come: pure, in whole milliwatt-hours (U6)."""
