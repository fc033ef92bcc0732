"""The gateway's program and machine for the utility: told at a connection, a change and each hour (LTE is narrow)."""

import json
from collections.abc import Sequence
from itertools import pairwise

from commonwatt.model.effects import Effect, Write
from commonwatt.model.time import Now
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.heartbeats import Program
from gateway.shown.devices import AGAIN_S
from gateway.store.changes import Change, KeptSettings, Setting

DAY_S = 86_400
KEPT_DAYS = 8  # days of which the free space is kept
MOST_DAYS = 9_999  # a disk that lasts longer is not said to fill

_STARTS, _FREE = "starts", "disk_free"  # settings: how often it started, and by day [time, free bytes]


class ProgramTold:
    """Keeps what is known of program and machine in the store, and what the utility was told last."""

    def __init__(self, store: KeptSettings) -> None:
        self.release = ""  # the program's; empty: not said
        self.cert_days: int | None = None  # whole days until the first certificate ends; ``None``: there is none
        self._starts = int(store.setting(_STARTS) or "0") + 1
        self._is_kept = False
        self._free: list[tuple[EpochSeconds, int]] = [
            (at, free) for at, free in json.loads(store.setting(_FREE) or "[]")
        ]
        self._told: Program | None = None
        self._told_at: EpochSeconds = 0

    def look(self, free_bytes: int, now: Now) -> list[Effect[Change]]:
        """Keep the start, once, and each day's free space; 0 bytes: not known."""
        effects: list[Effect[Change]] = []
        if not self._is_kept:
            self._is_kept = True
            effects.append(Write(Setting(_STARTS, str(self._starts))))
        if any(later <= before for (before, _), (later, _) in pairwise([*self._free, (int(now) + 1, 0)])):
            self._free = []  # The clock went back.
        if free_bytes and (not self._free or now - self._free[-1][0] >= DAY_S):
            self._free = [*self._free, (int(now), free_bytes)][-KEPT_DAYS:]
            effects.append(Write(Setting(_FREE, json.dumps(self._free))))
        return effects

    def forget(self) -> None:
        """Tell it again: what was sent without a connection is lost."""
        self._told = None

    def due(self, free_bytes: int, now: Now) -> Program | None:
        """Return the program if it is to be told now; ``None``: it was told before, or is not known."""
        if not self.release:
            return None
        days = days_left(self._free, free_bytes, now)
        said = Program(release=self.release, starts=self._starts, cert_days=self.cert_days, disk_days=days)
        is_new = self._told is None or said.model_copy(update={"disk_days": self._told.disk_days}) != self._told
        if not is_new and 0 <= now - self._told_at < AGAIN_S:
            return None
        self._told, self._told_at = said, now
        return said


def days_left(kept: Sequence[tuple[EpochSeconds, int]], free_bytes: int, now: EpochSeconds) -> int | None:
    """Return the days until a disk is full, by the fall of its free bytes since the oldest of ``kept``, a day at least.

    ``None``: it does not fill, or is not known yet.
    """
    if not kept or now - kept[0][0] < DAY_S:
        return None
    fall_a_day = (kept[0][1] - free_bytes) * DAY_S / (now - kept[0][0])
    days = free_bytes / fall_a_day if fall_a_day > 0 else MOST_DAYS + 1
    return int(days) if days <= MOST_DAYS else None
