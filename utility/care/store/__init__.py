"""The files that the care of controllers keeps: published releases."""
