"""The core of every meter: log, delivery, aggregation, desired states and answers."""
