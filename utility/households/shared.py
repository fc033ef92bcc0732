"""What an account gave to and got from its microgrid and the town by local day, as settled; never by neighbour (C4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.model.units import EpochSeconds, MilliwattHours, Quarter
from commonwatt.settlement.settled import Quantity, SettledQuality, SettledQuarters
from utility.exports.holdings import Held, is_held
from utility.exports.resolutions import Resolution, intervals


@dataclass(frozen=True, kw_only=True)
class SettledSums:
    """An account's settled energies of a local day, or of several."""

    start: EpochSeconds  # its first second
    imported: MilliwattHours = 0  # taken from the town, milliwatt-hours
    exported: MilliwattHours = 0  # given to the town
    got: MilliwattHours = 0  # got from the microgrid, from all other places together
    given: MilliwattHours = 0  # given to the microgrid, to all other places together
    quarters: int = 0  # settled quarter-hours of its meters
    expected: int = 0  # quarter-hours of its meters; without any, the account had none
    estimated: int = 0  # settled quarter-hours with an estimate or without data


_SUMMED = {
    "imported": Quantity.IMPORTED,
    "exported": Quantity.EXPORTED,
    "got": Quantity.SHARED_IN,
    "given": Quantity.SHARED_OUT,
}


def by_day(settled: SettledQuarters, held: Sequence[Held], zone: ZoneInfo) -> list[SettledSums]:
    """Return an account's sums of each local day that ``settled`` touches, while it had its meters."""
    quarters = settled.first + np.arange(settled.quality.shape[1])
    its = is_held(settled.meters[:, None], quarters[None, :], held)
    there = its & (settled.version > 0)
    doubtful = there & (settled.quality <= SettledQuality.ESTIMATED)
    energies = {name: np.where(there, settled.of(quantity), 0).sum(axis=0) for name, quantity in _SUMMED.items()}
    counts = {"quarters": there, "expected": its, "estimated": doubtful}
    columns = energies | {name: flags.sum(axis=0) for name, flags in counts.items()}
    days = intervals(Resolution.DAY, settled.first, settled.first + len(quarters), zone)
    index = days.index_of(quarters)
    starts = np.flatnonzero(np.diff(index, prepend=-1))
    sums = {name: np.add.reduceat(values, starts).tolist() for name, values in columns.items()}
    begins = days.starts[index[starts]].tolist()
    return [SettledSums(start=begin, **{name: of[n] for name, of in sums.items()}) for n, begin in enumerate(begins)]


def together(days: Sequence[SettledSums], start: EpochSeconds) -> SettledSums:
    """Return the sums over some days."""
    names = (*_SUMMED, "quarters", "expected", "estimated")
    return SettledSums(start=start, **{name: sum(getattr(day, name) for day in days) for name in names})


def settled_until(settled: SettledQuarters, held: Sequence[Held]) -> Quarter | None:
    """Return the quarter after an account's last settled one; ``None``: none is settled."""
    quarters = settled.first + np.arange(settled.quality.shape[1])
    there = is_held(settled.meters[:, None], quarters[None, :], held) & (settled.version > 0)
    last = np.flatnonzero(there.any(axis=0))
    return int(quarters[last[-1]]) + 1 if len(last) else None
