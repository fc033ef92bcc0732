"""Which quarter-hours were provisional when a run was made: an input of it, since it changes without a version."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from commonwatt.model.ids import MeterId
from commonwatt.model.units import Quarter
from commonwatt.settlement.settled import SettledQuarters
from utility.billing.inputs import Load

Spans = Mapping[MeterId, Sequence[tuple[Quarter, Quarter]]]
"""Provisional quarters by meter: first, and the one after the last."""


class Recorder:
    """Loads settled quarter-hours, and remembers which were provisional."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self.found: dict[MeterId, list[tuple[Quarter, Quarter]]] = {}  # the provisional quarters so far
        self.settled: set[Quarter] = set()  # the quarters of which a meter is settled

    def load(self, meters: Sequence[MeterId], first: Quarter, until: Quarter) -> SettledQuarters:
        """Return the settled quarter-hours of some meters."""
        settled = self._load(meters, first, until)
        self.settled.update((first + np.flatnonzero(settled.version.any(axis=0))).tolist())
        for row in np.flatnonzero(settled.provisional.any(axis=1)):
            edges = np.flatnonzero(np.diff(settled.provisional[row].astype(np.int8), prepend=0, append=0)).tolist()
            spans = [(first + a, first + b) for a, b in zip(edges[::2], edges[1::2], strict=True)]
            known = self.found.setdefault(int(settled.meters[row]), [])
            known += [span for span in spans if span not in known]
        return settled


def replayed(load: Load, spans: Spans) -> Load:
    """Return a function that loads settled quarter-hours with the provisional ones of a run."""

    def again(meters: Sequence[MeterId], first: Quarter, until: Quarter) -> SettledQuarters:
        settled = load(meters, first, until)
        provisional = np.zeros(settled.provisional.shape, np.bool_)
        for row, meter in enumerate(settled.meters):
            for start, end in spans.get(int(meter), ()):
                provisional[row, max(0, start - first) : max(0, end - first)] = True
        return replace(settled, provisional=provisional)

    return again
