"""What the manager knows of each meter, and what it counts."""

from collections import Counter
from dataclasses import dataclass, field

from commonwatt.model.ids import MeterId
from commonwatt.model.records import State
from commonwatt.model.time.now import Now, Trust
from commonwatt.model.units import MAX_EPOCH, SLOT_S, EpochSeconds, MilliwattHours
from commonwatt.model.validation import FUTURE_S
from commonwatt.protocol.device_states import ForeignDevice
from gateway.changes import MeterInfo

LEVEL_GOOD_FOR_S = 300
"""Seconds after which a level is too old to be shown or taken from a record, and an earlier one of another clock may
replace it."""

INITIALIZE_AGAIN_S = 60  # seconds until an unanswered ``initialize`` is sent again
ANSWER_S = 5  # seconds within which a connected meter answers
METER_WRONG_S = 5  # a meter whose time differs by more seconds is sent the time
TELL_AGAIN_S = 60  # seconds until the time may be sent to the same meter again


@dataclass
class MeterView:
    """The present state of a meter; all but ``info`` is volatile."""

    info: MeterInfo | None = None  # the settings in its last outcome; ``None`` until its first outcome
    answered: bool = False  # whether it answered ``initialize`` since this gateway started
    asked: EpochSeconds | None = None  # when ``initialize`` was last sent
    heard: EpochSeconds | None = None  # when its last message came; ``None``: none since this gateway started
    bits: int = State.INITIALIZED  # its state bits; treated as up until its first report
    bits_time: EpochSeconds = 0  # when they were reported, by the meter's clock
    level: MilliwattHours | None = None  # its battery's level, milliwatt-hours
    level_time: EpochSeconds = 0  # end of that level's slot
    level_heard: EpochSeconds = 0  # when that level came
    put_s: int | None = None  # seconds between its puts, as it last said; ``None``: they can't be set, or not known
    device: ForeignDevice | None = None  # what the adapter of a foreign device knows of it; ``None``: it is none
    told: EpochSeconds = 0  # when it was last sent the time

    def hear(self, now: Now) -> None:
        """Note a message; a meter that was silent since it was asked was not connected then, and is asked again."""
        if self.asked is not None and (self.heard or 0) < self.asked <= now - ANSWER_S:
            self.asked = None
        self.heard = now

    def take_level(self, time: EpochSeconds, level: MilliwattHours, now: Now) -> bool:
        """Take a battery's level, if it is newer than the present one; return whether it was taken."""
        latest = now + FUTURE_S if now.trust >= Trust.HARDWARE else MAX_EPOCH
        # A level from the future, accepted while the time was not trusted, must not block all later ones; nor must
        # one that a meter sent before its clock was set back.
        old = self.level_time > latest or now - self.level_heard > LEVEL_GOOD_FOR_S
        if time > latest or (time <= self.level_time and not old):
            return False
        self.level, self.level_time, self.level_heard = level, time, now
        return True

    def forget_if_ahead(self, now: Now) -> None:
        """Let the level be old if it came later than it is now: the clock was set back, and no age is known."""
        if self.level_heard > now + SLOT_S:
            self.level_heard = 0

    def take_bits(self, bits: int, time: EpochSeconds, now: Now) -> None:
        """Take state bits, unless they are older than those known."""
        # After a report of a clock that was ahead, the later ones count again.
        if time >= self.bits_time or self.bits_time > now + METER_WRONG_S:
            self.bits, self.bits_time = bits, time

    def needs_time(self, time: EpochSeconds, now: Now) -> bool:
        """Return whether a meter with this time is to be sent the right one."""
        return abs(time - now) > METER_WRONG_S and now - self.told >= TELL_AGAIN_S

    def shift(self, by_s: int) -> None:
        """Shift all times of this clock after it was set by ``by_s``."""
        self.asked = None if self.asked is None else self.asked + by_s
        self.heard = None if self.heard is None else self.heard + by_s
        self.told = self.told and self.told + by_s
        self.level_heard = self.level_heard and self.level_heard + by_s


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

    commands: Counter[str] = field(default_factory=Counter)  # commands sent, by name
    outcomes: Counter[str] = field(default_factory=Counter)  # outcomes received, by result
    unknown_states: int = 0  # reports with unknown state bits
    lapses: int = 0  # states that ended at their meters before they were renewed, though they were wanted
