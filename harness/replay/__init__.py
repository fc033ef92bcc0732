"""How near a replay of stored days comes to what was: emulated by 15 s, and replayed by quarter-hours."""
