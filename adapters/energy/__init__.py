"""From samples to slots, exactly: counters that fall, flows spread over time, values held."""
