"""The takeover's rules in a seeded world and in an exhaustive small world (docs/controllers.md)."""
