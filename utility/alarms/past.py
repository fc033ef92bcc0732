"""What the service counted within the alarms' windows, and which of its figures grow; pure: the caller passes the time.

It begins anew with each start: until then an alarm that stood is not over (``Kind.past_s``).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from commonwatt.model.time.recent import Lows, Recent

Count: TypeAlias = tuple[str, str]  # a counter's name, and its label's value; empty: it has no label

_WINDOWS_S = {
    "dropped": 900,
    "store_errors": 900,
    "refusals": 1_200,
    "conflicts": 3_600,
    "dead_letters": 3_600,
    "handovers": 3_600,
    "job_failures": 3_600,
    "went_back": 3_600,
}
"""The windows in which counters are watched, by their names, seconds."""

_CONFLICTS: Count = ("conflicts", "")
_BACKLOGS_S, _GAPS_S = 1_200, 10_800  # the periods of which the lowest values are compared, seconds


@dataclass(frozen=True, kw_only=True)
class Past:
    """What was counted lately."""

    counts: Mapping[Count, int] = field(default_factory=dict)  # by how much each counter grew within its window
    growing: frozenset[str] = frozenset()  # controllers whose backlog grows
    gaps_grow: bool = False  # whether more and more blocks have missing readings
    none_missing: bool = False  # whether no block has missing readings

    def count(self, name: str) -> int:
        """Return by how much a counter without labels grew."""
        return self.counts.get((name, ""), 0)

    def by_label(self, name: str) -> dict[str, int]:
        """Return by how much a counter grew, by its label's value."""
        return {label: number for (each, label), number in self.counts.items() if each == name}


class Counting:
    """Counters and figures since ``now``, clock seconds; it begins anew when the clock is set back."""

    def __init__(self, now: float) -> None:
        self.past = Past()  # what was counted lately, at the last look
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._now = now
        self._recent = Recent[Count](now)
        self._backlogs = Lows[str](_BACKLOGS_S)
        self._gaps = Lows[str](_GAPS_S)
        self._conflicts = math.nan
        self._more_conflicts = 0
        self._missing = math.nan

    def look(
        self, counts: Mapping[Count, int], backlogs: Mapping[str, int], gaps: float, conflicts: float, now: float
    ) -> None:
        """Take the present values.

        Args:
            counts: Counters that began at 0, by the names of ``_WINDOWS_S``.
            backlogs: What waits at each controller.
            gaps: Blocks with missing readings; NaN: not counted yet.
            conflicts: Slots with more than one value; NaN: not counted yet.
        """
        if now < self._now:
            self._begin(now)
        self._now, self._missing = now, gaps
        if not math.isnan(conflicts):
            self._more_conflicts += 0 if math.isnan(self._conflicts) else max(0, int(conflicts - self._conflicts))
            self._conflicts = conflicts
        self._recent.look({**counts, _CONFLICTS: counts.get(_CONFLICTS, 0) + self._more_conflicts}, now)
        self._backlogs.look(backlogs, now)
        self._gaps.look({} if math.isnan(gaps) else {"": gaps}, now)
        self.past = Past(
            counts={name: self._recent.increase(name, _WINDOWS_S[name[0]]) for name in self._recent.names},
            growing=frozenset(self._backlogs.growing(now)),
            gaps_grow=bool(self._gaps.growing(now)),
            none_missing=self._missing == 0,
        )
