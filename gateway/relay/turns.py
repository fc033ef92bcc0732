"""Turns of the microgrids that a controller hosts, on its one line to the utility (P3). Pure.

Live data goes at once. A backlog is sent a batch at a time, by the owner that has sent the fewest bytes for its weight.
An owner without a backlog saves up nothing. What is in flight is bounded for all owners together: at 1 Mbit/s live
data waits 4 s behind it at most.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from commonwatt.model.units import EpochSeconds, MicrogridId

WINDOW = 3  # batches in flight of all owners, and of one, at which no backlog is sent; live data may be one more
WINDOW_BYTES = 256 * 1024  # bytes in flight of all owners at which no backlog is sent
LATE_S = 10  # seconds after which an owner that did not ask again, or a batch without acknowledgement, counts no more


class _Sent(NamedTuple):
    time: EpochSeconds
    size: int


@dataclass
class _Owner:
    weight: float
    served: float = 0.0  # bytes sent while it had a backlog, by weight
    asked: EpochSeconds | None = None  # when it last asked for a turn; ``None``: it has no backlog, or can't send it
    due: EpochSeconds | None = None  # since when it has live data to send
    flying: dict[int, _Sent] = field(default_factory=dict)  # its batches in flight, by sequence


class Turns:
    """Decides which hosted microgrid sends a batch of its backlog next."""

    def __init__(self) -> None:
        self._owners: dict[MicrogridId, _Owner] = {}

    def join(self, owner: MicrogridId) -> None:
        """Add an owner, or begin anew with one whose store was opened again: nothing of it is in flight."""
        self._owners[owner] = _Owner(1.0)

    def weigh(self, owner: MicrogridId, weight: float) -> None:
        """Set an owner's share of the bytes, relative to the others'."""
        self._owners[owner].weight = weight

    def due(self, owner: MicrogridId, now: EpochSeconds) -> None:
        """Note that an owner has live data to send: nobody's backlog goes before it."""
        self._owners[owner].due = now

    def may_send(self, owner: MicrogridId, now: EpochSeconds) -> bool:
        """Return whether an owner may send a batch of its backlog now; it has one."""
        own = self._owners[owner]
        others = [other for name, other in self._owners.items() if name != owner]
        waiting = [other.served for other in others if _is_recent(other.asked, now)]
        if waiting and not _is_recent(own.asked, now):
            own.served = max(own.served, min(waiting))
        own.asked, own.due = now, None
        batches = (sent for owner in self._owners.values() for sent in owner.flying.values())
        flying = [sent.size for sent in batches if _is_recent(sent.time, now)]
        has_room = len(flying) < WINDOW and sum(flying) < WINDOW_BYTES
        return (
            has_room
            and own.served <= min(waiting, default=own.served)
            and not any(_is_recent(other.due, now) for other in others)
        )

    def sent(self, owner: MicrogridId, sequence: int, size: int, now: EpochSeconds) -> None:
        """Note a batch that was sent; live data counts, too, as long as the owner has a backlog."""
        own = self._owners[owner]
        own.flying[sequence] = _Sent(now, size)
        own.due = None
        if own.asked is not None:
            own.served += size / own.weight

    def ended(self, owner: MicrogridId, sequence: int, *, lost: bool = False) -> None:
        """Note that a batch is no longer in flight; what the line has lost is not counted as served."""
        own = self._owners[owner]
        sent = own.flying.pop(sequence, None)
        if lost and sent is not None and own.asked is not None:
            own.served -= sent.size / own.weight

    def rest(self, owner: MicrogridId) -> None:
        """Note that an owner has no backlog, or must not send it now."""
        self._owners[owner].asked = self._owners[owner].due = None


def _is_recent(time: EpochSeconds | None, now: EpochSeconds) -> bool:
    # After the clock was set either way a time counts no more.
    return time is not None and abs(now - time) <= LATE_S
