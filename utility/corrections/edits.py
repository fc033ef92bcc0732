"""A person's value for a period: its energy over the slots, in the shape of like days."""

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS, EpochSeconds, MilliwattHours, Quarter
from commonwatt.settlement.estimates.scaling import spread, summing_to

MAX_DAYS = 35  # longest period of an edit; like days further away are not like

Energies = NDArray[np.int64]
Flags = NDArray[np.bool_]


def quarters_of(start: EpochSeconds, end: EpochSeconds) -> tuple[Quarter, Quarter]:
    """Return the first quarter of a period and the quarter after its last.

    Raises:
        ConfigError: It is empty, too long, or not on the grid of slots.
    """
    if start >= end:
        raise ConfigError("from must be before to")
    if start % SLOT_S or end % SLOT_S:
        raise ConfigError(f"from and to must be multiples of {SLOT_S} s, the length of a slot")
    if end - start > MAX_DAYS * 86_400:
        raise ConfigError(f"a period has at most {MAX_DAYS} days; enter a longer one in parts")
    return start // QUARTER_S, -(-end // QUARTER_S)


def edited(
    start: EpochSeconds, end: EpochSeconds, energy: MilliwattHours | None, shape: Energies, known: Flags
) -> tuple[Energies, Flags]:
    """Return the values of a period's quarters by slot, and which slots are in the period, (quarters, 60).

    Args:
        energy: Its energy; ``None``: that of like days.
        shape: Energy of each quarter on like days, (quarters).
        known: Where it is known.

    Raises:
        ConfigError: There is neither an energy nor a like day for each quarter.
    """
    if energy is None and not known.all():
        raise ConfigError("there are no like days for the whole period; give its energy in kilowatt-hours")
    first = start // QUARTER_S * QUARTER_S
    slots = np.zeros(len(shape) * SLOTS, np.bool_)
    slots[(start - first) // SLOT_S : (end - first) // SLOT_S] = True
    # Where the shape is not known in part, it would put all energy into the rest.
    typical = spread(shape) if known.all() else np.ones(len(slots), np.int64)
    values = np.where(slots, typical, 0)
    if energy is not None:
        values[slots] = summing_to(energy, typical[slots])
    return values.reshape(-1, SLOTS), slots.reshape(-1, SLOTS)


def energy_of(text: str) -> MilliwattHours:
    """Return kilowatt-hours, at most six decimals, as milliwatt-hours.

    Raises:
        ConfigError: It is no such number.
    """
    whole, _, decimals = text.partition(".")
    if not (whole + decimals).isdecimal() or not (whole + decimals).isascii() or not whole or len(decimals) > 6:
        raise ConfigError(
            f"energy {text:.30}: must be kilowatt-hours such as 4.25, not negative, with at most 6 decimals"
        )
    if len(whole) > 9:
        raise ConfigError(f"energy {text:.30}: is more than any meter measures")
    return int(whole + decimals.ljust(6, "0"))
