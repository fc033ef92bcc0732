"""The flight recorder: what a controller's core was given in the last hour, and the replay of it on any machine."""
