"""The command line that all parts share."""
