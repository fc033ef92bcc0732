"""The flight recorder: the events of a controller's core in the last hour, and the replay of it on any machine."""
