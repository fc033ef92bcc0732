"""The domain model: units, records, interval blocks, validation, effects, errors. Imports no other package."""
