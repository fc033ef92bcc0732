"""Bills and reminders by mail: a queue, each at most once."""
