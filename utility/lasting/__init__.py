"""How long the town, each microgrid and each home have energy if the line fails now, and how well it was foretold."""
