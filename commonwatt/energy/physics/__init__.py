"""The energy of any number of microgrids in a step, as integer arrays, and the town's plant."""
