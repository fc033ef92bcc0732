"""What the manager knows of each meter: counts, disobedience, orders of brokers, lifetimes of states.

How long each kind of desired state lasts, and when it is renewed: one table for all (docs/control.md).
A state that is kept is renewed while its manager lives, and ends by itself at the meter when the manager is gone.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from commonwatt.model.control import PUT_S
from commonwatt.model.effects import Effect, Write
from commonwatt.model.records import State
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import MAX_EPOCH, SLOT_S, ControllerId, EpochSeconds, MeterId, MicrogridId, MilliwattHours
from commonwatt.model.validation import FUTURE_S
from commonwatt.protocol.commands import KINDS, NO_LIMIT, ForeignDevice, Kind, Outcome, Stage
from gateway.store.changes import Change, KeptSettings, MeterInfo, Setting

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
class MeterCounts:
    """Counts since the start, for the metrics."""

    commands: Counter[str] = field(default_factory=Counter)  # commands sent, by name
    outcomes: Counter[str] = field(default_factory=Counter)  # outcomes received, by result
    unknown_states: int = 0  # reports with unknown state bits
    lapses: int = 0  # states that ended at their meters before they were renewed, though they were wanted


FIRST_S = 600  # seconds until a device that did not obey is told again; each further wait is twice as long
DOUBLED = 4  # so many times: the longest is 160 minutes


class Disobeying:
    """The states that devices refused by not obeying."""

    def __init__(self) -> None:
        self._until: dict[tuple[MeterId, Kind], tuple[int, EpochSeconds]] = {}

    def take(self, meter: MeterId, outcome: Outcome, now: EpochSeconds) -> bool:
        """Note whether a device obeys; return whether it just refused."""
        kind = KINDS.get(outcome.cmd)
        state = outcome.device.states.get(kind) if kind and outcome.device else None
        if kind is None or state is None:
            return False
        refuses = outcome.result == "refused" and state.stage is Stage.DISOBEYS
        if refuses and not self.waits(meter, kind, now):
            times = self._until.get((meter, kind), (0, 0))[0]
            self._until[meter, kind] = times + 1, now + (FIRST_S << min(times, DOUBLED))
        elif state.stage in (Stage.OBEYS, Stage.UNCONFIRMED):
            self._until.pop((meter, kind), None)
        return refuses

    def waits(self, meter: MeterId, kind: Kind, now: EpochSeconds) -> bool:
        """Return whether a device did not obey, and is not told again yet."""
        return (meter, kind) in self._until and now < self._until[meter, kind][1]

    def shift(self, by_s: int) -> None:
        """Shift all times after the clock was set by ``by_s``."""
        self._until = {key: (times, until + by_s) for key, (times, until) in self._until.items()}


_SETTING = "broker_orders"

Order = tuple[ControllerId, ...]


class BrokerOrders:
    """The assigned orders of the meters of one microgrid."""

    def __init__(self, microgrid: MicrogridId, store: KeptSettings) -> None:
        kept = store.setting(_SETTING)
        self._of: dict[MeterId, Order] = {int(meter): tuple(names) for meter, names in json.loads(kept or "{}").items()}
        self._is_known = kept is not None
        self._microgrid = microgrid

    def set(self, orders: Mapping[MeterId, Order]) -> tuple[list[Effect[Change]], set[MeterId]]:
        """Keep the orders in place of those before; return the writes, and the meters whose order changed."""
        changed = {meter for meter in orders.keys() | self._of if orders.get(meter) != self._of.get(meter)}
        self._of, self._is_known = dict(orders), True
        kept = {str(meter): names for meter, names in sorted(self._of.items())}
        return [Write(Setting(_SETTING, json.dumps(kept)))], changed

    def of(self, meter: MeterId, of_manager: Order | None) -> Order | None:
        """Return the order for a meter; empty: as installed, ``None``: nothing is said of it.

        Args:
            of_manager: The order so that meters reach the manager; empty: it is their own controller, ``None``: the
                microgrid has no other manager.
        """
        own = self._of.get(meter, ())
        if of_manager:
            # Home is lost. A meter whose data goes elsewhere needs no other broker.
            return own if own and own[0] != self._microgrid else of_manager
        return own if of_manager is not None or self._is_known else None


RESEND_S = 10  # seconds until an unconfirmed command is sent again; each further wait is twice as long
RESEND_AT_MOST_S = 300  # longest of these waits, seconds
MANY_TIMES = 6  # so many times sent, a command waits the longest; so does one that its meter refused, or does not have
UNKNOWN = "unknown"  # the value of a state of which this store knows only the pair


@dataclass(frozen=True, kw_only=True)
class Lifetime:
    """The values and times of a kind of desired state that a manager keeps."""

    on: str | None  # its value while it is kept; ``None``: any but ``off``, the manager says which
    off: str  # its value otherwise, which needs no end
    for_s: int  # seconds until its end, from each renewal
    renew_s: int  # it is renewed when no more seconds than this are left

    def is_on(self, value: str) -> bool:
        """Return whether a value is one of a state that is kept."""
        return value not in (self.off, UNKNOWN) if self.on is None else value == self.on

    def is_due(self, until: EpochSeconds, now: EpochSeconds) -> bool:
        """Return whether a state with an end is to be renewed: few seconds are left, or more than it is ever given."""
        return not self.renew_s < until - now <= self.for_s


_SWITCHED = Lifetime(on="on", off="off", for_s=900, renew_s=300)

LIFETIMES: Mapping[Kind, Lifetime] = {
    Kind.SHARING: _SWITCHED,
    Kind.REDUCING: _SWITCHED,
    Kind.ISOLATED: _SWITCHED,
    # It only shapes data: a long life costs nothing, and saves commands to hundreds of meters.
    Kind.AGGREGATION: Lifetime(on="lossless", off="none", for_s=86_400, renew_s=28_800),
    Kind.IMPORT_LIMIT: Lifetime(on=None, off=NO_LIMIT, for_s=900, renew_s=300),
    Kind.PUT_PERIOD: Lifetime(on=None, off=str(PUT_S), for_s=86_400, renew_s=28_800),
}
"""By kind of state."""


def resend_after_s(times: int) -> int:
    """Return the seconds until a command that was sent so many times, and is not confirmed, is sent again."""
    return min(RESEND_S << max(0, times - 1), RESEND_AT_MOST_S)
