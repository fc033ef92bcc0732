"""The figures in docs/scenarios.md, docs/scenarios.md and docs/scenarios.md."""
