"""The utility's store: parts are appended, joined when read, and compacted after their quarter (docs/stores.md)."""
