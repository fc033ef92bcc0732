"""What a relay has sent: batches in flight, and counts since the start for the metrics and the ladder of the line."""

from collections import Counter
from dataclasses import dataclass, field

from commonwatt.model.blocks import Blocks
from commonwatt.model.control.relaying import ENOUGH_S, Relayed
from commonwatt.model.ids import MeterId
from commonwatt.model.units import EpochSeconds
from gateway.relay.outbox import Selection
from gateway.stored import Key


@dataclass(frozen=True)
class InFlight:
    """A batch that was sent and is not acknowledged."""

    sent: EpochSeconds
    selection: Selection
    wanted: tuple[Key, ...] = ()

    @property
    def meters(self) -> frozenset[MeterId]:
        """The meters whose data it holds."""
        events = (event.meter_id for _, event in self.selection.events)
        return frozenset(self.selection.blocks.meter.tolist()).union(events)


@dataclass
class Counts:
    """Counts since the start."""

    batches: Counter[str] = field(default_factory=Counter)  # batches, by what became of them
    blocks: int = 0  # blocks in them
    slots: int = 0  # readings in them
    with_blocks: int = 0  # batches with blocks
    size: int = 0  # bytes of these batches
    since: EpochSeconds | None = None  # when the first batch was sent

    def sent(self, blocks: Blocks, size: int, now: EpochSeconds) -> None:
        """Count a batch of ``size`` bytes."""
        self.since = now if self.since is None else self.since
        self.batches["sent"] += 1
        self.blocks += len(blocks)
        if len(blocks):
            self.slots += int((blocks.quality > 0).sum())
            self.with_blocks += 1
            self.size += size

    def shift(self, by_s: int) -> None:
        """Shift the time of the first batch after the time was set by ``by_s``."""
        self.since = None if self.since is None else self.since + by_s

    def relayed(self, now: EpochSeconds) -> Relayed | None:
        """Return what was sent; ``None``: it was not counted for long enough."""
        seconds = 0 if self.since is None else now - self.since
        if seconds < ENOUGH_S or not self.slots:
            return None
        return Relayed(seconds=seconds, batches=self.with_blocks, blocks=self.blocks, slots=self.slots, size=self.size)
