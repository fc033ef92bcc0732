"""Counts priority inversions: a lower class served from where a higher one goes short (U5, P5).

All microgrids that are on the grid are one side of the plant; each island is a side of its own. Classes are those of
rationing. Every microgrid of a town file has places of one class, so an island can't have an inversion; one with
places of several classes would need a count of places.

Within a step a lower class is served while a higher one is short. Over time a lower class was served from the plant's
battery, and within ``LASTS_H`` of the same shortage that energy lacks for a higher class.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from commonwatt.energy.physics.boundary import Cause, Exchange
from commonwatt.energy.physics.places import Places
from commonwatt.energy.physics.town import PRIORITY, MicrogridsStep
from commonwatt.model.control.supply import LASTS_H
from commonwatt.model.units import MilliwattHours


@dataclass
class _Served:
    """A step in which the plant's battery served the town in a shortage."""

    energy: MilliwattHours  # what it gave and nothing has replaced since, milliwatt-hours
    microgrids: list[int]  # how many microgrids of each class took energy


class Inversions:
    """Counts the inversions of a run, step by step."""

    def __init__(self, blocks: Sequence[Places]) -> None:
        self._blocks = blocks
        self._served: deque[_Served] = deque(maxlen=LASTS_H * 3600 // blocks[0].step_s)

    def add(self, steps: Sequence[MicrogridsStep], before: MilliwattHours, left: MilliwattHours | None) -> int:
        """Return the inversions that a step shows: its own ones, and those of earlier steps that it brings to light.

        Args:
            steps: The step, by layout.
            before: What the plant's battery held above the kept level at its begin.
            left: The same at its end; ``None``: there is no shortage.
        """
        found = inversions(self._blocks, steps)
        if left is None:
            self._served.clear()
            return found
        classes = list(_by_class(self._blocks, steps))
        for number, members in enumerate(classes):
            if sum(map(_lacking, members)) > left:
                for served in (one for one in self._served if one.energy):
                    found += sum(served.microgrids[number + 1 :])
                    del served.microgrids[number + 1 :]
        self._keep(before - left, [sum(int((one.imported > 0).sum()) for one in members) for members in classes])
        return found

    def _keep(self, given: MilliwattHours, microgrids: list[int]) -> None:
        """Keep a step in which the battery gave energy; what charges it replaces what it gave last."""
        for served in reversed(self._served):
            replaced = min(served.energy, max(0, -given))
            served.energy -= replaced
            given += replaced
        # A step without energy keeps its place: the length is that of the time.
        self._served.append(_Served(energy=max(0, given), microgrids=microgrids))


def inversions(blocks: Sequence[Places], steps: Sequence[MicrogridsStep]) -> int:
    """Return how many microgrids took energy from the town while a higher class lacked it there, in one step.

    A microgrid lacks the town's energy if the town was short, or rationed it; not if its own feeder was the limit, for
    then nobody's restraint would help.
    """
    count, higher_short = 0, False
    for members in _by_class(blocks, steps):
        if higher_short:
            count += sum(int((one.imported > 0).sum()) for one in members)
        higher_short |= any(map(_lacking, members))
    return count


def _by_class(blocks: Sequence[Places], steps: Sequence[MicrogridsStep]) -> Iterator[list[Exchange]]:
    for kind in PRIORITY:
        yield [step.exchange for places, step in zip(blocks, steps, strict=True) if places.kind == kind]


def _lacking(one: Exchange) -> MilliwattHours:
    """Return the town's energy that microgrids lacked."""
    # A place that is off in turn lacks the town's energy if its microgrid is not an island.
    off = one.short[Cause.PLACE] * (one.imported > 0)
    return int(one.short[[Cause.TOWN, Cause.LIMIT]].sum() + off.sum())
