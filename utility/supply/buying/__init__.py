"""Policies of buying, by name: what the plant buys from the regional grid in the next quarter-hour (U4)."""
