"""Commands as desired states, and their outcomes: JSON, down and up (docs/protocol.md, "Commands"; M5).

A command that sets a state has its issuer's epoch and a sequence number for its kind of state. A meter persists
the highest (epoch, sequence) of each kind before it acts, and ignores any pair that is not higher. This comparison
handles duplicates, reordering, a deposed manager and supersession (docs/control.md).
"""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from commonwatt.model.control import PUT_S
from commonwatt.model.text import printable
from commonwatt.model.units import MAX_EPOCH, ControllerId, EpochSeconds
from commonwatt.protocol.json_messages import Id64, Message, MessagePart, Moment, Natural


class Stage(StrEnum):
    """How far a device obeys."""

    UNKNOWN = "unknown"  # its state was not read yet
    OFF = "off"  # nothing is asked of it, and it does nothing
    ASKED = "asked"  # it was told, and has not shown that it obeys
    OBEYS = "obeys"  # it shows the state that was asked
    UNCONFIRMED = "unconfirmed"  # it was told, and can't show whether it obeys
    DISOBEYS = "disobeys"  # it was told three times, and shows another state


Failsafe = Literal["will", "watchdog", "none"]
_FAILSAFES = get_args(Failsafe)


class DeviceState(MessagePart):
    """One commanded state of a foreign device."""

    # How far it obeys; one of a later version is ``unknown``.
    stage: Annotated[Stage, BeforeValidator(lambda given: given if given in set(Stage) else Stage.UNKNOWN)]
    since: Moment  # since when, epoch seconds
    # What ends the state if the adapter is gone; of a later version: nothing that is known.
    failsafe: Annotated[Failsafe, BeforeValidator(lambda given: given if given in _FAILSAFES else "none")]
    # Most seconds until it has ended then; absent: nothing ends it.
    failsafe_s: Annotated[int, Field(ge=0, le=3600)] | None = None
    # Of a device that disobeys: what it should do, and what it shows; for people.
    finding: Annotated[str, Field(max_length=200)] | None = None

    @property
    def is_unsafe(self) -> bool:
        """Whether nothing ends it if the adapter is gone."""
        return self.failsafe == "none"


class ForeignDevice(MessagePart):
    """A foreign device as its adapter knows it."""

    name: Annotated[str, Field(max_length=64)]  # its name in topics
    preset: Annotated[str, Field(max_length=32)]  # the preset that reads its messages
    heard: Moment | None = None  # when its last message came; absent: none since its start
    # What it can be told, by kind of state (``commands.Kind``; a later version may have others).
    states: Annotated[dict[str, DeviceState], Field(max_length=6)] = Field(default_factory=dict)
    # How many of its values were not used since the adapter's start, and the last of them, by reason.
    ignored: Annotated[dict[str, tuple[Natural, Annotated[str, Field(max_length=80)]]], Field(max_length=12)] = Field(
        default_factory=dict
    )


# (counter, rank) of the commanding manager; compared as a pair.
Epoch = tuple[Annotated[int, Field(ge=0, lt=2**32)], Annotated[int, Field(ge=0, lt=2**16)]]
ALONE = 0  # the rank of a controller without a clique, such as one of an earlier release; it has its own microgrid
EPOCH_STEP = 65_536  # the largest step of an epoch's counter that a meter takes
RAISES = 100  # most raises of an epoch by one rank, at a meter, or by one member's word within ``RAISES_WITHIN_S``
RAISES_WITHIN_S = 86_400
MAX_SEQUENCE = 2**53  # the highest sequence number of a command; a meter refuses it, since no higher one could follow

Sequence = Annotated[int, Field(ge=0, le=MAX_SEQUENCE)]

MAX_PUT_S = 900  # the longest period of puts
PutPeriod = Annotated[int, Field(ge=PUT_S, le=MAX_PUT_S, multiple_of=PUT_S)]  # seconds between puts, whole minutes

Weight = Annotated[int, Field(ge=1, le=1000)]  # share of a donor's discharge relative to other donors


class Kind(StrEnum):
    """A kind of desired state; each has sequence numbers of its own."""

    SHARING = "sharing"
    REDUCING = "reducing"
    ISOLATED = "isolated"
    AGGREGATION = "aggregation"
    IMPORT_LIMIT = "import_limit"
    PUT_PERIOD = "put_period"


_KINDS = frozenset(Kind)

Name = Literal[
    "initialize",
    "stop",
    "get",
    "put",
    "isolate",
    "aggregate",
    "deaggregate",
    "share_power_on",
    "share_power_off",
    "reduce_power_on",
    "reduce_power_off",
    "limit_import",
    "put_every",
    "revoked",
]
"""The specification's commands, ``limit_import`` (A2), ``put_every`` (C9) and ``revoked``; ``acknowledge`` is
``meter_messages.PutAck``."""

NO_LIMIT = "none"  # the import limit of a meter without one; any other value is a number of watts, as text

VERBS: dict[tuple[Kind, str], tuple[Name, dict[str, str]]] = {
    (Kind.SHARING, "on"): ("share_power_on", {}),
    (Kind.SHARING, "off"): ("share_power_off", {}),
    (Kind.REDUCING, "on"): ("reduce_power_on", {}),
    (Kind.REDUCING, "off"): ("reduce_power_off", {}),
    (Kind.ISOLATED, "on"): ("isolate", {"state": "on"}),
    (Kind.ISOLATED, "off"): ("isolate", {"state": "off"}),
    (Kind.AGGREGATION, "none"): ("deaggregate", {}),
    (Kind.AGGREGATION, "lossless"): ("aggregate", {"mode": "lossless"}),
    (Kind.AGGREGATION, "lossy"): ("aggregate", {"mode": "lossy"}),
    (Kind.IMPORT_LIMIT, NO_LIMIT): ("limit_import", {}),
    (Kind.PUT_PERIOD, str(PUT_S)): ("put_every", {}),
}
"""The command for each desired state, with the key of the value; other numbers have a key as well (``verb``)."""

_NUMBERS: dict[Kind, tuple[Name, str]] = {
    Kind.IMPORT_LIMIT: ("limit_import", "import_limit_w"),
    Kind.PUT_PERIOD: ("put_every", "put_s"),
}
"""The command and the key of the value of each kind whose values are numbers; without the key it is the default."""

KINDS: dict[str, Kind] = {cmd: kind for (kind, _), (cmd, _) in VERBS.items()}
"""The kind of state of each command that sets one."""

_STATES = {(cmd, *keys.values()): state for state, (cmd, keys) in VERBS.items()}


def verb(kind: Kind, value: str) -> tuple[Name, dict[str, str | int]]:
    """Return the command for a desired state, and the keys of its value."""
    if (kind, value) in VERBS:
        cmd, keys = VERBS[kind, value]
        return cmd, dict(keys)
    cmd, number = _NUMBERS[kind]
    return cmd, {number: int(value)}


class Command(Message):
    """A command to a meter."""

    id: Annotated[str, Field(max_length=64)]  # the issuer's id for this command, repeated in its outcome
    cmd: Name  # what to do
    issuer: Annotated[str, Field(max_length=32)]  # the manager that sent it
    epoch: Epoch  # the issuer's epoch; a command below the highest epoch seen is fenced off
    seq: Sequence | None = None  # sequence number within the kind of state; only of commands that set a state
    until: Moment | None = None  # end of the state, epoch seconds; only one of ``until`` and ``for_s`` may be present
    # The same as a duration from its arrival, where time is not trusted.
    for_s: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    mode: Literal["lossless", "lossy"] | None = None  # ``lossless`` or ``lossy`` (aggregate)
    state: Literal["on", "off"] | None = None  # ``on`` or ``off`` (isolate)
    weight: Weight | None = None  # share of the discharge relative to other donors (share_power_on)
    import_limit_w: Natural | None = None  # most watts from the town (limit_import); absent: no limit
    put_s: PutPeriod | None = None  # seconds between puts (put_every); absent: as without a command
    # What to get: ``records`` or ``events`` (collecting: answered by a put), ``levels``, ``state``;
    # ``manager``: whether the gateway of ``about`` still answers, a question that needs no epoch.
    what: Literal["records", "events", "levels", "state", "manager"] | None = None
    # The controller believed lost, for ``get`` of ``manager``; absent: only the meter's epoch is asked.
    about: Annotated[str, Field(max_length=32)] | None = None
    quiet: bool | None = None  # whether a ``get`` of records or events that is done needs no outcome beside the put
    from_id: Id64 | None = None  # first id to get
    to_id: Id64 | None = None  # last id to get
    time: Moment | None = None  # the issuer's time, for ``put``
    trust: Annotated[int, Field(ge=0, le=3)] | None = None  # how far that time can be trusted, 0 to 3

    # The order of brokers for data (initialize); empty: as installed, absent: as before.
    brokers: Annotated[tuple[Annotated[str, Field(max_length=32)], ...], Field(max_length=8)] | None = None
    revoked: Annotated[str, Field(max_length=12_000)] | None = None  # the list (revoked), as ``RevokedList`` writes it
    signature: Annotated[str, Field(max_length=160)] | None = None  # the authority's, of that list; hexadecimal

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.until is not None and self.for_s is not None:
            raise ValueError("until and for_s exclude each other")
        return self

    def desired(self) -> tuple[Kind, str] | None:
        """Return the kind of state and the value of this command, or ``None`` if it sets no state."""
        for kind, (cmd, number) in _NUMBERS.items():
            if cmd == self.cmd and (given := getattr(self, number)) is not None:
                return kind, str(given)
        value = {"isolate": self.state or "on", "aggregate": self.mode or "lossless"}.get(self.cmd)
        return _STATES.get((self.cmd,) if value is None else (self.cmd, value))

    def end(self, now: EpochSeconds) -> EpochSeconds | None:
        """Return when the state ends, for a receiver whose time is ``now``; ``None``: never."""
        return self.until if self.for_s is None else min(now + self.for_s, MAX_EPOCH)


class HeldState(MessagePart):
    """One desired state of a meter, with the pair that set it."""

    value: Annotated[str, Field(max_length=16)]
    epoch: Epoch
    # Below the highest number, so that a higher number always exists.
    seq: Annotated[int, Field(ge=0, lt=MAX_SEQUENCE)]
    until: Moment | None = None
    weight: Weight | None = None


class LogIds(MessagePart):
    """The range of ids in a meter's log: ``first`` to ``next`` - 1; empty if they are equal."""

    generation: Annotated[int, Field(ge=0, lt=2**32)]
    first: Id64
    next: Id64


def known_kinds(held: Any) -> Any:
    """Leave the kinds of a later version out of desired states, before they are validated."""
    return {kind: each for kind, each in held.items() if kind in _KINDS} if isinstance(held, dict) else held


Result = Literal["done", "repeated", "superseded", "fenced", "expired", "refused", "partial", "unsupported"]
"""done · repeated: was done before, the same outcome again · superseded: a higher pair is held · fenced: a higher epoch
was seen · expired: its end had passed · refused: can't be done, see ``reason`` · partial: see what came with it ·
unsupported: this version has no such command."""


class Answer(Message):
    """What every answer to a command says."""

    id: Annotated[str, Field(max_length=64)]  # the command's id
    cmd: Annotated[str, Field(max_length=32)]  # the command
    result: Result  # what became of it
    # Why, when it was not done. It is text of another machine, which people read: control characters come escaped.
    reason: Annotated[str, Field(max_length=256), AfterValidator(lambda text: printable(text)[:256])] | None = None
    time: Moment  # the answering side's time


class Outcome(Answer):
    """A meter's answer to a command: the result, and the meter's present state and pairs."""

    bits: Annotated[int, Field(ge=0, lt=2**16)]  # ``records.State`` bits now
    # The desired states by kind, each with the pair that set it; kinds of a later version are left out.
    held: Annotated[dict[Kind, HeldState], BeforeValidator(known_kinds)] = Field(default_factory=dict)
    epoch: Epoch = (0, 0)  # the highest epoch seen
    push: bool  # the manual push switch: the meter sends without a request (M4)
    # The householder's sharing minimum; absent without a battery.
    minimum_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    # The battery's capacity; absent without a battery.
    capacity_mwh: Annotated[int, Field(gt=0, le=2**53)] | None = None
    history: LogIds | None = None  # the ids in the history log
    events: LogIds | None = None  # the ids in the event log
    sent: dict[str, Natural] | None = None  # for ``get`` and ``put``: how much of which type was exchanged
    # For ``get`` of ``manager``: whether that gateway acknowledged a put within 3 s; absent: it is not known.
    acknowledged: bool | None = None
    put_s: PutPeriod | None = None  # seconds between its puts; absent: its period can't be commanded
    device: ForeignDevice | None = None  # of a foreign device: what its adapter knows of it
    # Of a boundary meter, optional: the voltage of the town's side, per mille of the nominal one.
    voltage_permille: Annotated[int, Field(ge=0, le=2000)] | None = None
    # Of a boundary meter, optional: the frequency of the town's side.
    frequency_millihertz: Annotated[int, Field(ge=0, le=100_000)] | None = None


class Raises:
    """What members said of one microgrid's counter.

    One member alone raises it by ``EPOCH_STEP`` in all, in ``RAISES`` times, within ``RAISES_WITHIN_S``.
    """

    def __init__(self) -> None:
        self._said: dict[ControllerId, int] = {}
        self._raised: dict[ControllerId, tuple[float, int, int]] = {}  # since when, how often, by how much in all

    def allow(self, sender: ControllerId, known: int, counter: int, now: float) -> bool:
        """Return whether a member's word may raise a known counter, and note it.

        What another member said, too, may always.
        """
        self._said[sender] = max(counter, self._said.get(sender, 0))
        if counter <= known or any(said >= counter for name, said in self._said.items() if name != sender):
            return True
        since, times, raised = self._raised.get(sender, (now, 0, 0))
        if now - since >= RAISES_WITHIN_S:
            since, times, raised = now, 0, 0
        if times >= RAISES or raised + counter - known > EPOCH_STEP:
            return False
        self._raised[sender] = since, times + 1, raised + counter - known
        return True
