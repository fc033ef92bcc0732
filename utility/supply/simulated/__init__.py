"""The utility in a simulated town: policies by name, and what it decides in each quarter-hour."""
