"""Statistics: settled days of a town in a database, a synthetic town of several years, the backtest of projections."""
