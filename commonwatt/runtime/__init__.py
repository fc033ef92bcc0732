"""The runtime of every service: clock, ticks, watchdog, signals, disk space."""
