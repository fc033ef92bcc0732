"""The order in which microgrids return to the town after an outage, and their load then (C5, docs/islanding.md)."""

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


COLD_PERCENT = 300
"""Load of a microgrid that has just returned, as a percentage of its ordinary load: its thermostats return together."""

COLD_S = 1800
"""How long that lasts, seconds."""


def cold_load_percent(returned_s: int) -> int:
    """Return a microgrid's load as a percentage of its ordinary load, so many seconds after its return.

    Before its return (below 0) it has none. This is the worst case: places without any energy of their own.
    """
    if returned_s < 0:
        return 0
    return COLD_PERCENT if returned_s < COLD_S else 100
