"""A town's office as its people see it: pages, a bank, a town with a year of settled quarter-hours."""
