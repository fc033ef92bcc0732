"""The utility's store: appended parts, joined when read, compacted when their quarter ends (docs/stores.md)."""
