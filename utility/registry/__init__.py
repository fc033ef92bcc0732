"""The registry: devices enrolled from a town file, and a snapshot of the registered meters for checks."""
