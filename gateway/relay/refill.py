"""Refilling a utility that lost its store: the backup is sent again, behind live data and at a share of the line.

docs/stores.md has the arithmetic of the share.
"""

import json
from collections import deque
from dataclasses import asdict, dataclass, replace

from commonwatt.model.effects import Effect, Write
from commonwatt.model.time import Now
from commonwatt.model.units import QUARTER_S, EpochSeconds, Quarter
from commonwatt.protocol.heartbeats import LineMonth, RefillProgress
from gateway.store.changes import Change, Setting, Stored

SHARE = 8  # a refill takes one part in so many of the line
LINE_BYTES_S = 125_000  # bytes that the line carries in a second: 1 Mbit/s
MONTH_S = 30 * 86_400  # seconds of a month
OTHERS_WAIT_S = 900  # seconds for which only public microgrids refill: the backup of one takes 13 minutes
REFILL_PARTS = 500  # most parts in one batch of a refill: for those of the whole town the utility needs 2 s
CREDIT_S = 10  # seconds of its share that a refill catches up with, since it is looked at every 5 s only
LOOK_S = 60  # seconds until it is looked again whether anything is left that can't be sent now
LONGEST_S = 86_400  # a wait beyond it was set by a clock that was ahead
RATE_SAMPLES = 60  # heartbeats over which the rate is measured: an hour
SHOWN_S = 86_400  # seconds for which a finished refill is reported

_SETTING = "refilling"


class RefillPace:
    """The share of a controller's line that refills take, all microgrids that it hosts together."""

    def __init__(self) -> None:
        self._bytes_s = LINE_BYTES_S / SHARE
        self._free_at = 0.0

    def look(self, month: LineMonth | None) -> None:
        """Take the share of the line's speed; in a month that is used up, of its allowance."""
        exceeded = month is not None and month.level == "exceeded"
        self._bytes_s = (month.allowance / MONTH_S if month is not None and exceeded else LINE_BYTES_S) / SHARE

    def sent(self, size: int, now: EpochSeconds) -> None:
        """Count the bytes of a batch."""
        taken = self._free_at if self._free_at <= now + LONGEST_S else 0
        self._free_at = max(taken, now - CREDIT_S) + size / self._bytes_s

    def waits(self, now: EpochSeconds) -> bool:
        """Return whether the next batch has to wait."""
        return now < self._free_at <= now + LONGEST_S


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """What the store keeps of a refill."""

    since: EpochSeconds  # when the utility's new store was seen
    parts: int | None = None  # parts to send again; ``None``: not counted yet
    end: EpochSeconds | None = None  # when the last was acknowledged; ``None``: it lasts


class Refill:
    """How far one microgrid's store is in sending its backup again.

    Attributes:
        is_public: Whether it begins at once, as a public microgrid.
        pace: The share of the line.
        batch: The number of its last batch; only one is in flight.
    """

    def __init__(self, store: Stored, pace: RefillPace) -> None:
        self.is_public = False
        self.pace = pace
        self.batch = 0
        self._store = store
        kept = store.setting(_SETTING)
        self._kept = None if kept is None else _Kept(**json.loads(kept))
        self._look_at: EpochSeconds = 0
        self._samples: deque[tuple[EpochSeconds, int]] = deque(maxlen=RATE_SAMPLES)

    @property
    def before(self) -> Quarter:
        """The quarter before which data belongs to the refill; 0: there is none, and all data is live."""
        return 0 if self._kept is None or self._kept.end is not None else self._kept.since // QUARTER_S

    def begin(self, now: Now) -> list[Effect[Change]]:
        """Begin, as the utility has a new store."""
        self._samples.clear()
        return self._keep(_Kept(since=now))

    def is_due(self, now: Now) -> bool:
        """Return whether its next batch is to be sent; it is asked once all rows are marked."""
        if not self.before or self.pace.waits(now) or now < self._look_at <= now + LOOK_S:
            return False
        return not now < self._begins <= now + OTHERS_WAIT_S

    @property
    def _begins(self) -> EpochSeconds:
        assert self._kept is not None
        return self._kept.since + (0 if self.is_public else OTHERS_WAIT_S)

    def count(self) -> list[Effect[Change]]:
        """Count what is to be sent, once: all rows are marked now."""
        if self._kept is None or not self.before or self._kept.parts is not None:
            return []
        return self._keep(replace(self._kept, parts=self._store.unsent_before(self.before)))

    def look(self, now: Now) -> list[Effect[Change]]:
        """End, if nothing is left; otherwise wait: what is left can't be sent now."""
        assert self._kept is not None
        self._look_at = now + LOOK_S
        return [] if self._store.unsent_before(self.before) else self._keep(replace(self._kept, end=now))

    def _keep(self, kept: _Kept) -> list[Effect[Change]]:
        self._kept = kept
        return [Write(Setting(_SETTING, json.dumps(asdict(kept))))]

    def said(self, now: Now) -> RefillProgress | None:
        """Return what the heartbeat says of it; ``None``: there is none, nothing is to send, or it ended a day ago."""
        kept = self._kept
        if kept is None or kept.parts == 0 or (kept.end is not None and not 0 <= now - kept.end < SHOWN_S):
            return None
        left = 0 if kept.end is not None else self._store.unsent_before(self.before)
        begins = max(kept.since, self._begins)
        parts = None if kept.parts is None else max(kept.parts, left)
        return RefillProgress(
            since=kept.since, begins=begins, parts=parts, left=left, per_hour=self._per_hour(left, now), end=kept.end
        )

    def _per_hour(self, left: int, now: Now) -> int | None:
        """Return the parts acknowledged in an hour, from the last heartbeats; ``None``: not known yet."""
        if self._kept is None or self._kept.parts is None or now < self._begins or not left:
            return None
        self._samples.append((now, left))
        since, before = self._samples[0]
        return max(0, before - left) * 3600 // (now - since) if now > since else None
