"""The epochs that meters report. One meter's word counts for that meter alone; what two say is believed."""

from collections import Counter

from commonwatt.model.ids import MeterId
from commonwatt.protocol.commands import EPOCH_STEP, Epoch

BELIEVED = 2  # so many meters are believed


class Reports:
    """The highest epoch that each meter of a microgrid reported since a time.

    Args:
        meters: How many meters the microgrid has.
    """

    def __init__(self, meters: int) -> None:
        self.needed = min(BELIEVED, meters)  # how many meters are believed
        self._most = meters // 2 + 1
        self.by_meter: dict[MeterId, Epoch] = {}

    def say(self, meter: MeterId, epoch: Epoch) -> None:
        """Note what a meter reports."""
        self.by_meter[meter] = max(epoch, self.by_meter.get(meter, (0, 0)))

    def believed(self, known: Epoch) -> Epoch:
        """Return the highest epoch that enough meters reported, and no fewer reported or exceeded; (0, 0): none.

        No lawful manager goes further than a step above what is known; that more than a step was taken, most meters
        must say. An epoch that others only exceed may be one meter's invention.
        """
        said = Counter(self.by_meter.values())
        exceeding = 0
        for epoch, by in sorted(said.items(), reverse=True):
            exceeding += by
            needed = self.needed if epoch[0] <= known[0] + EPOCH_STEP else max(self.needed, self._most)
            if by >= self.needed and exceeding >= needed:
                return epoch
        return (0, 0)

    def confirm(self, held: Epoch) -> bool:
        """Return whether enough meters report no higher epoch, and too few a higher one that a manager could have."""
        higher = sum(held < epoch and epoch[0] <= held[0] + EPOCH_STEP for epoch in self.by_meter.values())
        return higher < self.needed <= sum(epoch <= held for epoch in self.by_meter.values())

    def above(self, known: Epoch) -> int:
        """Return a counter above a known epoch and all reported ones, but for one that a meter or two made up."""
        base = max(known[0], self.believed(known)[0])
        return 1 + max([base, *(epoch[0] for epoch in self.by_meter.values() if epoch[0] <= base + EPOCH_STEP)])

    def within_step(self, meter: MeterId, held: Epoch) -> Epoch:
        """Return the epoch under which a meter takes commands of a manager: one step above its own at most."""
        own = self.by_meter.get(meter, held)
        return held if own[0] == 0 else (min(held[0], own[0] + EPOCH_STEP), held[1])
