"""The use of a place behind several meters, which tells more than each of them.

The incoming meter of a house with sun and battery reads nothing for days and then a lot, as the weather is. What the
house uses is as steady as in a house without: it is judged in place of the incoming meter's readings.
"""

import numpy as np
from numpy.typing import NDArray

_Energies = NDArray[np.int64]


def use_of(incoming: _Energies, outgoing: _Energies, generation: _Energies, charge: _Energies) -> _Energies:
    """Return a place's use, milliwatt-hours.

    Args:
        incoming: Through the incoming meter.
        outgoing: Through the outgoing meter.
        generation: Of its panels.
        charge: Net charge of its battery, before its loss; negative: discharge (``sharing.net_charge``).
    """
    return np.asarray(incoming + generation - outgoing - charge)
