"""Emulated meters and what they measure: sun, habits, batteries and the loop of a microgrid."""
