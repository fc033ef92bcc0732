"""What any meter does: its log, delivery, aggregation, desired states and answers."""
