"""What the manager knows of each meter, and what it counts."""

from collections import Counter
from dataclasses import dataclass, field

from commonwatt.model.ids import MeterId
from commonwatt.model.records import State
from commonwatt.model.units import EpochSeconds, MilliwattHours
from gateway.changes import MeterInfo


@dataclass
class MeterView:
    """The present state of a meter; all but ``info`` is volatile.

    Attributes:
        info: The settings in its last outcome; ``None`` until its first outcome.
        answered: Whether it answered ``initialize`` since this gateway started.
        asked: When ``initialize`` was last sent.
        heard: When its last message came; ``None``: none since this gateway started.
        bits: Its state bits; treated as up until its first report.
        bits_time: When they were reported, by the meter's clock.
        level: Its battery's level, milliwatt-hours.
        level_time: End of that level's slot.
        level_heard: When that level came.
        told: When it was last sent the time.
    """

    info: MeterInfo | None = None
    answered: bool = False
    asked: EpochSeconds | None = None
    heard: EpochSeconds | None = None
    bits: int = State.INITIALIZED
    bits_time: EpochSeconds = 0
    level: MilliwattHours | None = None
    level_time: EpochSeconds = 0
    level_heard: EpochSeconds = 0
    told: EpochSeconds = 0


@dataclass(frozen=True)
class CommandNote:
    """A command and its result, for the status page."""

    time: EpochSeconds
    meter: MeterId
    cmd: str
    result: str


@dataclass
class Counts:
    """Counts since the start, for the metrics."""

    commands: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    unknown_states: int = 0
