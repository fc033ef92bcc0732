"""What people see of the town, its microgrids and meters: states, plots, words; pure."""
