"""The mean of an averaging group (M7), for records and for blocks."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from commonwatt.model.units import GROUP_SLOTS

Total = TypeVar("Total", int, npt.NDArray[np.int64])


def mean_of_group(total: Total) -> Total:
    """Return the mean of ten readings, rounded half up, from their sum; of one group, or of many as an array.

    Twice ten readings of up to 2^53 stay below 2^63.
    """
    return (2 * total + GROUP_SLOTS) // (2 * GROUP_SLOTS)
