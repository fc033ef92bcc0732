"""Settlement beside a plain second implementation, on random microgrid-days."""
