"""Records of a meter: made, aggregated, kept in a log, delivered."""
