"""Real parts: brokers, databases, sites, processes."""
