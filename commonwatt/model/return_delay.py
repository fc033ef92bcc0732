"""The order in which microgrids return to the town after an outage (C5, docs/islanding.md)."""

import hashlib

from commonwatt.model.units import MicrogridId

BLOCKS = 6
"""Blocks in which all microgrids but the public one return."""

BLOCK_S = 240
"""Seconds between two blocks: the last one returns 24 minutes after the public microgrid."""


def return_delay_s(microgrid: MicrogridId, *, is_public: bool) -> int:
    """Return the seconds that a microgrid waits after a stable voltage: the public one none, the others by block.

    The block is random, but the same at each return.
    """
    if is_public:
        return 0
    return BLOCK_S * (1 + hashlib.sha256(microgrid.encode()).digest()[0] % BLOCKS)
