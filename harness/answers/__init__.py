"""The figures in docs/policies.md and docs/answers.md."""
