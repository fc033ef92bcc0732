"""Commands as desired states, and their outcomes: JSON, down and up (docs/protocol.md, "Commands"; M5).

A command that sets a state carries its issuer's epoch and a sequence number of its own kind of state. A meter persists
the highest (epoch, sequence) of each kind before it acts, and ignores anything not higher: duplicates, reordering, a
deposed manager and supersession are that one comparison (design 4.3).
"""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, ValidationError, ValidationInfo, model_validator
from pydantic.functional_validators import BeforeValidator

from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.messages import Refusal

MAX_COMMAND_BYTES = 16_384
"""A JSON message is no longer than this; more gaps than fit go into the next command."""


def _from_text(value: object, info: ValidationInfo) -> object:
    if isinstance(value, int) and info.mode == "python":
        return value
    if isinstance(value, str) and value.isdecimal() and len(value) <= 20:
        return int(value)
    raise ValueError("must be a decimal number in quotation marks")


Id64 = Annotated[int, BeforeValidator(_from_text), PlainSerializer(str), Field(ge=0, lt=2**64)]
"""A 64-bit id: decimal text in JSON, since many readers keep only 53 bits of a JSON number."""

Epoch = tuple[Annotated[int, Field(ge=0, lt=2**32)], Annotated[int, Field(ge=0, lt=2**16)]]
"""(counter, rank) of the manager that commands; compared as a pair."""

Sequence = Annotated[int, Field(ge=0, le=2**53)]

Natural = Annotated[int, Field(ge=0, le=2**53)]
"""A count: no larger than every reader of JSON, and every database, can hold."""

Moment = Annotated[int, Field(ge=0, lt=2**32)]
"""UTC epoch seconds."""


class Kind(StrEnum):
    """A kind of desired state; each has sequence numbers of its own."""

    SHARING = "sharing"
    REDUCING = "reducing"
    ISOLATED = "isolated"
    AGGREGATION = "aggregation"


class Message(BaseModel):
    """What all JSON messages have in common."""

    # Unknown keys are ignored: a later version may add some.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, defer_build=True)

    v: Literal[1] = 1

    def pack(self) -> bytes:
        """Return the message as compact JSON without absent fields."""
        return self.model_dump_json(exclude_none=True).encode()


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
]
"""The specification's commands; ``acknowledge`` is ``messages.PutAck``."""

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
}
"""The command that asks for each desired state, with the key that says which value."""

_STATES = {(cmd, *keys.values()): state for state, (cmd, keys) in VERBS.items()}


class Command(Message):
    """A command to a meter.

    Attributes:
        id: The issuer's name for this command; comes back in its outcome.
        cmd: What to do.
        issuer: The manager that commands.
        epoch: The issuer's epoch; lower than the highest seen is fenced off.
        seq: Sequence number within the kind of state; only of commands that set a state.
        until: End of the state, epoch seconds; exactly one of ``until`` and ``for_s`` may stand.
        for_s: The same as a duration from its arrival, where time is not trusted.
        mode: ``lossless`` or ``lossy`` (aggregate).
        state: ``on`` or ``off`` (isolate).
        weight: Share of the discharge relative to other donors (share_power_on).
        what: What to get: ``records`` or ``events`` (collecting: answered by a put), ``levels``, ``state``.
        from_id: First id to get.
        to_id: Last id to get.
        time: What is put: the issuer's time.
        trust: How far that time can be trusted, 0 to 3.
    """

    id: Annotated[str, Field(max_length=64)]
    cmd: Name
    issuer: Annotated[str, Field(max_length=32)]
    epoch: Epoch
    seq: Sequence | None = None
    until: Moment | None = None
    for_s: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    mode: Literal["lossless", "lossy"] | None = None
    state: Literal["on", "off"] | None = None
    weight: Annotated[int, Field(ge=1, le=1000)] | None = None
    what: Literal["records", "events", "levels", "state"] | None = None
    from_id: Id64 | None = None
    to_id: Id64 | None = None
    time: Moment | None = None
    trust: Annotated[int, Field(ge=0, le=3)] | None = None

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.until is not None and self.for_s is not None:
            raise ValueError("until and for_s exclude each other")
        return self

    def desired(self) -> tuple[Kind, str] | None:
        """Return the kind of state this asks for and the value, or ``None`` if it sets none."""
        value = {"isolate": self.state or "on", "aggregate": self.mode or "lossless"}.get(self.cmd)
        return _STATES.get((self.cmd,) if value is None else (self.cmd, value))

    def end(self, now: EpochSeconds) -> EpochSeconds | None:
        """Return when the state ends, for a receiver whose time is ``now``; ``None``: never."""
        return self.until if self.for_s is None else now + self.for_s


class Held(BaseModel):
    """One desired state as a meter holds it, with the pair it was set by."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    value: Annotated[str, Field(max_length=16)]
    epoch: Epoch
    # Below the highest number, so that there is always one to go above it.
    seq: Annotated[int, Field(ge=0, lt=2**53)]
    until: Moment | None = None
    weight: Annotated[int, Field(ge=1, le=1000)] | None = None


class LogIds(BaseModel):
    """What a meter's log holds: ``first`` to ``next`` - 1; empty when they are equal."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    generation: Annotated[int, Field(ge=0, lt=2**32)]
    first: Id64
    next: Id64


Result = Literal["done", "repeated", "superseded", "fenced", "expired", "refused", "partial"]
"""done · repeated: was done before, the same outcome again · superseded: a higher pair is held · fenced: a higher epoch
was seen · expired: its end had passed · refused: can't be done, see ``reason`` · partial: see what came with it."""


class Outcome(Message):
    """What a meter answers to a command: what became of it, and the meter's present state and pairs.

    Attributes:
        id: The command's id.
        cmd: The command.
        result: What became of it.
        reason: Why, when it was not done.
        time: The meter's time.
        bits: ``records.State`` bits now.
        held: The desired states held, by kind, with the pair that set each.
        epoch: The highest epoch seen.
        push: The manual switch: sends by itself (M4).
        minimum_percent: The householder's sharing minimum; absent without a battery.
        capacity_mwh: The battery's capacity; absent without a battery.
        history: What the history log holds.
        events: What the event log holds.
        sent: For ``get`` and ``put``: how much of which type was exchanged.
    """

    id: Annotated[str, Field(max_length=64)]
    cmd: Annotated[str, Field(max_length=32)]
    result: Result
    reason: Annotated[str, Field(max_length=256)] | None = None
    time: Moment
    bits: Annotated[int, Field(ge=0, lt=2**16)]
    held: dict[Kind, Held] = Field(default_factory=dict)
    epoch: Epoch = (0, 0)
    push: bool
    minimum_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    capacity_mwh: Annotated[int, Field(gt=0, le=2**53)] | None = None
    history: LogIds | None = None
    events: LogIds | None = None
    sent: dict[str, Natural] | None = None


BlockMask = tuple[
    Id64,
    Annotated[int, Field(ge=1, le=255)],
    Annotated[int, Field(ge=0, lt=2**32)],
    Annotated[str, Field(pattern="^[0-9a-f]{1,15}$")],
]
"""(meter, record type, quarter, hexadecimal mask of slots: bit s is slot s)."""


Period = Literal["collect_s", "levels_s", "relay_s", "compact_s"]
PERIODS: tuple[Period, ...] = get_args(Period)
"""Settings of a gateway that an operator may change while it runs."""


class ControllerCommand(Message):
    """A command of the utility to a gateway, on the head-end.

    Attributes:
        id: The utility's name for it; the same id again is the same command.
        cmd: ``get``: relay these slots, or everything of a range of quarters; ``aggregate`` / ``deaggregate``: the
            relay (``at`` gateway) or the meters' logs (``at`` meters); ``schedule``: change periods.
        until: When the command itself is no longer wanted.
        at: Where to aggregate.
        mode: How to aggregate.
        for_s: For how long; absent: until deaggregated.
        blocks: The slots wanted (get).
        first_quarter: First quarter wanted whole (get).
        last_quarter: Last quarter wanted whole (get).
        periods: Settings of the gateway by name (``collect_s``, ``levels_s``, ``relay_s``, ``compact_s``), seconds;
            ``None``: what the gateway's file says.
    """

    id: Annotated[str, Field(max_length=64)]
    cmd: Literal["get", "aggregate", "deaggregate", "schedule"]
    until: Moment
    at: Literal["gateway", "meters"] = "gateway"
    mode: Literal["lossless", "lossy"] = "lossless"
    for_s: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    blocks: list[BlockMask] | None = None
    first_quarter: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    last_quarter: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    periods: dict[Period, Annotated[int, Field(ge=15, le=86_400)] | None] | None = None


class ControllerOutcome(Message):
    """What a gateway answers to the utility.

    Attributes:
        id: The command's id.
        cmd: The command.
        result: What became of it.
        reason: Why, when it was not done.
        time: The gateway's time.
        sent: How many blocks are on their way (get).
        absent: Slots asked for that the gateway does not have (get).
    """

    id: Annotated[str, Field(max_length=64)]
    cmd: Annotated[str, Field(max_length=32)]
    result: Result
    reason: Annotated[str, Field(max_length=256)] | None = None
    time: Moment
    sent: Natural | None = None
    absent: list[BlockMask] | None = None


class LineByteCount(Message):
    """What the connections of a broker's meters have cost on its line, as the broker tells its gateway.

    Attributes:
        run: A random number of the broker's process; the sums begin at 0 with it.
        sent: IP bytes sent to meters.
        received: IP bytes received from them.
    """

    run: Id64
    sent: Natural
    received: Natural


class Month(BaseModel):
    """How an LTE line stands in its month. Pairs are up (what the controller sent) and down (received).

    Attributes:
        used: IP bytes since the month began.
        expected: What it will be at the month's end if it goes on as in the last days; ``None``: not known yet.
        allowance: What the plan allows in a month, each way.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    used: tuple[Natural, Natural]
    expected: tuple[Natural, Natural] | None = None
    allowance: Natural

    @property
    def level(self) -> Literal["unknown", "ok", "at_risk", "exceeded"]:
        """How much a person has to worry."""
        if max(self.used) > self.allowance:
            return "exceeded"
        if self.expected is None:
            return "unknown"
        return "at_risk" if max(self.expected) > self.allowance else "ok"


class Heartbeat(Message):
    """How a gateway is; QoS 0, the next one replaces it.

    Attributes:
        time: The gateway's time.
        store: Random id of its store.
        backlog_parts: Parts of blocks the utility has not acknowledged.
        backlog_events: Events.
        backlog_letters: Dead letters.
        backlog_age_s: Seconds since the oldest quarter ended of which the utility has not acknowledged every part.
        aggregation: How what it relays is aggregated: ``none``, ``lossless`` or ``lossy``.
        periods: The periods in force, seconds.
        tuned: The names of those that the utility set, and that its file does not say.
        minima: By meter, the sharing minimum in percent and when the meter said so (T6).
        trust: How far its time can be trusted, 0 to 3.
        offset_s: By how much its time is ahead of the clock it started with.
        fenced: How many meters obey another manager, by the higher epoch they report, and are not commanded.
        lte: How its controller's LTE line stands; ``None``: nothing of it was counted yet.
    """

    time: Moment
    store: Id64
    backlog_parts: Natural
    backlog_events: Natural
    backlog_letters: Natural
    backlog_age_s: Natural = 0
    aggregation: Literal["none", "lossless", "lossy"]
    periods: dict[str, Natural] = Field(default_factory=dict)
    tuned: tuple[str, ...] = ()
    minima: dict[str, tuple[Annotated[int, Field(ge=0, le=100)], Moment]] = Field(default_factory=dict)
    trust: Annotated[int, Field(ge=0, le=3)] = 0
    offset_s: Annotated[int, Field(ge=-(2**53), le=2**53)] = 0
    fenced: Natural = 0
    lte: Month | None = None


_M = TypeVar("_M", bound=Message)


def unpack_json(model: type[_M], data: bytes) -> _M:
    """Read a JSON message.

    Raises:
        ProtocolError: Too long, not JSON, or not of this form; the text names the first fault.
    """
    if len(data) > MAX_COMMAND_BYTES:
        raise ProtocolError(Refusal.TOO_LARGE, f"{model.__name__} of {len(data)} bytes, more than {MAX_COMMAND_BYTES}")
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        fault: Any = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        text = str(fault["msg"]).removeprefix("Value error, ")
        where = ": ".join(filter(None, (model.__name__, key)))
        raise ProtocolError(Refusal.MALFORMED, f"{where}: {text}") from error
