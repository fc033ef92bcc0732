"""What every service needs of its machine: clock, ticks, watchdog, signals, disk space."""
