"""Statistics: settled days of a town in a database, a synthetic town of several years, and the backtest of projections."""
