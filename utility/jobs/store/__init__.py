"""SQL of the jobs."""
