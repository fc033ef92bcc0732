"""The console: the utility's pages for people (docs/console.md)."""
