"""A town's installation: the office's folder made from one file, bundles for the machines, and their installation."""
