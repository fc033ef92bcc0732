"""A gateway's part in its cliques: pure rules (``core``, a ``member`` for each microgrid), carried out by ``shell``."""
