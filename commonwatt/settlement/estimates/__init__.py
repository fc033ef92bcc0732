"""Estimates for missing readings: by balance, by interpolation, by like days; scaled (docs/billing.md)."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Energies: TypeAlias = NDArray[np.int64]  # milliwatt-hours by slot or quarter-hour
Flags: TypeAlias = NDArray[np.bool_]
