"""Emulated meters, and the physics that they measure: sun, loads, batteries and the loop of a microgrid."""
