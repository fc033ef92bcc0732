"""The utility's store: appended parts, joined when read, compacted when their quarter is over (design 1)."""
