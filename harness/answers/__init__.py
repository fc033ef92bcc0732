"""The figures in docs/policies.md, docs/answers.md and docs/scenarios.md."""
