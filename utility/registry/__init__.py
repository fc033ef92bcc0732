"""The registry: filled from a town file, and a snapshot of it for checks."""
