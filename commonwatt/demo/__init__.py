"""The demonstration: a small town of separate processes on one machine, started by their own commands."""
