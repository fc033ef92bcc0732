"""What foreign devices are there: announced to Home Assistant, or heard on the broker; as rules, or as cards."""
