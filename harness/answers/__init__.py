"""The figures in docs/scenarios.md."""
