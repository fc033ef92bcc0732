"""Which controller manages each microgrid: the utility's grants."""
