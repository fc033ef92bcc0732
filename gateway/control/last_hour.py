"""When the batteries of a microgrid are empty at their mean net discharge of the last hour; pure."""

from collections import deque
from collections.abc import Mapping

from commonwatt.model.control.lasting import lasts_until
from commonwatt.model.ids import MeterId
from commonwatt.model.units import EpochSeconds, MilliwattHours


class LastHour:
    """The levels of batteries over the last hour, a sample a minute."""

    def __init__(self) -> None:
        self._samples: deque[tuple[EpochSeconds, Mapping[MeterId, MilliwattHours]]] = deque(maxlen=61)

    def take(self, levels: Mapping[MeterId, MilliwattHours], now: EpochSeconds) -> None:
        """Take the levels that are known."""
        if not self._samples or now - self._samples[-1][0] >= 60:
            self._samples.append((now, levels))

    @property
    def lasts_until(self) -> EpochSeconds | None:
        """When the batteries of the last sample are empty, by the first with all of them; ``None``: not known."""
        if not self._samples:
            return None
        now, last = self._samples[-1]
        since, before = next(each for each in self._samples if last.keys() <= each[1].keys())
        energy = sum(last.values())
        return lasts_until(now, energy, since, sum(before[meter] for meter in last) - energy)
