"""SQL of the outbox."""
