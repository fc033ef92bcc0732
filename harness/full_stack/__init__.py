"""A scenario on real processes: islands where feeders die, and an audit of every reading."""
