"""The energy of microgrids as arrays: the physics of a step, sharing, shedding, and how long energy lasts. Pure."""
