"""The town at a glance: microgrids, meters, jobs, and what waits for a person."""
