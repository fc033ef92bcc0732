"""The order in which microgrids return to the town after an outage (C5, docs/islanding.md)."""

import hashlib

from commonwatt.model.units import EpochSeconds, MicrogridId

STABLE_S = 300  # seconds of stable voltage without which no command closes the switch

UNMANAGED_S = 900
"""The same, if no manager commanded it to close since it opened; also since the end of a command that held it open: a
manager whose renewal is late has not given the switch up."""

BLOCKS = 6  # blocks in which all microgrids but the public one return
BLOCK_S = 240  # seconds between two blocks: the last one returns 24 minutes after the public microgrid


def return_delay_s(microgrid: MicrogridId, returned: EpochSeconds, *, is_public: bool) -> int:
    """Return the seconds that a microgrid waits after a stable voltage: the public one none, the others by block.

    The block is random for each return. Only what closes the switch needs to know it: nothing else has to agree.

    Args:
        returned: When the voltage came back, as the part that closes the switch observed it.
        is_public: Whether it is the public one.
    """
    if is_public:
        return 0
    return BLOCK_S * (1 + hashlib.sha256(f"{microgrid} {returned}".encode()).digest()[0] % BLOCKS)
