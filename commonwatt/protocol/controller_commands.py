"""The utility's commands to a gateway, and their outcomes: JSON on the head-end (C7, docs/protocol.md).

``Action`` is the complete list. A command sets something for the whole microgrid until its end, or asks for something
once; each is answered. A gateway answers ``unsupported`` to a command that it does not have.
"""

import re
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from commonwatt.model.control import PUT_S, SupplyState
from commonwatt.model.units import ControllerId, MicrogridId
from commonwatt.protocol.commands import MAX_PUT_S, Answer, Epoch, Weight
from commonwatt.protocol.json_messages import Id64, Message, MessagePart, Moment, Natural

BlockMask = tuple[
    Id64,
    Annotated[int, Field(ge=1, le=255)],
    Annotated[int, Field(ge=0, lt=2**32)],
    Annotated[str, Field(pattern="^[0-9a-f]{1,15}$")],
]
"""(meter, record type, quarter, hexadecimal mask of slots: bit s is slot s)."""


Period = Literal["collect_s", "levels_s", "relay_s", "put_s", "compact_s"]
PERIODS: tuple[Period, ...] = get_args(Period)  # settings of a gateway that an operator may change while it runs


Strategy = Literal["spec", "aces", "rangers"]  # how the batteries of a microgrid share (docs/control.md)


STRATEGY_WORDS: dict[str, str] = {
    "spec": "below the minimum, by weights",
    "aces": "empty first, by weights",
    "rangers": "largest surplus first",
}
"""Each strategy for people: who is helped, and who gives."""


StrategyOrFile = Literal["spec", "aces", "rangers", "file"]
"""A strategy, or the one of the gateway's settings file again."""


Brokers = Annotated[tuple[Annotated[str, Field(max_length=16)], ...], Field(min_length=1, max_length=8)]
"""Names of controllers whose brokers a meter uses, the first one first."""


MetersMode = Literal["none", "lossless"]  # how all meters aggregate from their start on (A5)


Money = Annotated[str, Field(pattern=r"^[0-9]{1,4}(\.[0-9]{1,6})?$")]  # dollars, exact


PeriodPrices = tuple[Annotated[str, Field(min_length=1, max_length=32)], Money, Money]
"""(period of time of use, price of import, price of credit), dollars per kWh."""


MAX_SPARED = 500  # most meters of places that must not be cut, in one microgrid
MAX_CHANGES = 500  # most changes of the price in one command


class Action(StrEnum):
    """A command to a gateway, with its keys beside ``id``, ``cmd`` and ``until``: every command of this version."""

    needed: tuple[str, ...]  # keys without which it is refused
    optional: tuple[str, ...]  # further keys

    def __new__(cls, cmd: str, needed: tuple[str, ...] = (), optional: tuple[str, ...] = ()) -> Self:
        """Make a command of its word and its keys."""
        action = str.__new__(cls, cmd)
        action._value_, action.needed, action.optional = cmd, needed, optional
        return action

    GET = "get", (), ("blocks", "first_quarter", "last_quarter")
    AGGREGATE = "aggregate", (), ("at", "mode", "for_s")
    DEAGGREGATE = "deaggregate", (), ("at",)
    SCHEDULE = "schedule", ("periods",), ("meters",)
    SHARING = "sharing", (), ("strategy", "weights", "from_time")
    REDUCE = "reduce", ("state",), ("for_s",)
    SUPPLY = "supply", ("supply", "for_s"), ("import_limit_w",)
    NOTICE = "notice", ("power", "for_s")
    ISOLATE = "isolate", ("state",), ("for_s",)
    HOLD = "hold", ("state",), ("for_s",)
    STOP = "stop", ("meter", "state")
    RATES = "rates", ("tariff", "version", "prices", "changes", "rates_until")
    ASSIGN = "assign", ("orders",)
    SYSTEM_INFO = "system_info"
    REPORT = "report"
    DISCOVER = "discover"
    UPGRADE = "upgrade", ("release", "sha256")
    UNPACK = "unpack", ("sha256",)
    WITNESS = "witness", ("month", "code"), ("replaces",)
    SPARE = "spare", ("spared",)


ACTIONS = frozenset(Action)  # as words, too
_IN_FORCE = re.compile(r"(?:deposed by|the epoch is) \[(\d{1,10}), (\d{1,5})\]")
NOT_HERE = "is not managed here"  # how the reason ends of a controller that has no store of a microgrid (hosted)
HOSTED = "hosted"  # wraps a command for a microgrid that a controller manages for another one


CheckCode = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""The check code of a month's bills: SHA-256 of the month's head, hexadecimal."""


def witnessed_text(controller: ControllerId, month: str, code: str, replaces: str | None) -> bytes:
    """Return what a controller signs of a month's bills (docs/billing.md)."""
    return f"commonwatt witness 1\n{controller}\n{month}\n{code}\n{replaces or ''}\n".encode()


WITNESS_PURPOSE = "witness key"  # purpose of a signature by a controller's certificate


def witness_key_text(controller: ControllerId, key: str) -> bytes:
    """Return what the key of a controller's certificate signs: its witness's public key (hexadecimal)."""
    return f"{controller}\n{key}\n".encode()


class ControllerCommand(Message):
    """A command of the utility to a gateway, on the head-end."""

    id: Annotated[str, Field(max_length=64)]  # the utility's id for it; the same id again is the same command
    cmd: Annotated[str, Field(max_length=32)]  # what to do, an ``Action``; any other word is answered ``unsupported``
    until: Moment  # when the command itself is no longer wanted
    # Where to aggregate: the relay (``gateway``), or the meters' logs (``meters``).
    at: Literal["gateway", "meters"] = "gateway"
    mode: Literal["lossless", "lossy"] = "lossless"  # how to aggregate
    # For how many seconds from its arrival it holds, a hold at most to ``until``; absent (aggregate): until
    # deaggregated.
    for_s: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    blocks: list[BlockMask] | None = None  # the slots wanted (get)
    first_quarter: Annotated[int, Field(ge=0, lt=2**32)] | None = None  # first quarter wanted whole (get)
    last_quarter: Annotated[int, Field(ge=0, lt=2**32)] | None = None  # last quarter wanted whole (get)
    # Settings of the gateway by name (``collect_s``, ``levels_s``, ``relay_s``, ``put_s``, ``compact_s``), seconds;
    # ``None``: what the gateway's file says.
    periods: dict[Period, Annotated[int, Field(ge=15, le=86_400)] | None] | None = None
    # How all meters aggregate their records, from their ``initialize`` on (schedule); absent: as before.
    meters: MetersMode | None = None
    # How batteries share; ``file``: as the settings file says; absent: as before (sharing).
    strategy: StrategyOrFile | None = None
    # Share of each donor's discharge relative to others, by meter; empty: what the file says; absent: as before
    # (sharing).
    weights: dict[Id64, Weight] | None = None
    from_time: Moment | None = None  # from when that holds, epoch seconds; absent: at once (sharing)
    # ``on`` or ``off`` (reduce, isolate, hold, stop); ``on`` needs ``for_s``, but not for a stop.
    state: Literal["on", "off"] | None = None
    meter: Id64 | None = None  # the meter that shuts down, or starts up again (stop)
    supply: SupplyState | None = None  # the state of the regional supply (supply)
    # Most watts that the microgrid may take from the town; absent: no limit (supply).
    import_limit_w: Natural | None = None
    # What the utility knows of the microgrid's feeder: its power is ``lost`` or ``back`` (notice).
    power: Literal["lost", "back"] | None = None
    tariff: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] | None = None  # the name of a tariff (rates)
    # Its version, the newest that holds in the time sent (rates).
    version: Annotated[int, Field(ge=1, lt=2**15)] | None = None
    # Its periods with their prices (rates).
    prices: Annotated[list[PeriodPrices], Field(min_length=1, max_length=100)] | None = None
    # From when which of them holds: epoch seconds, place in ``prices``; ascending (rates).
    changes: Annotated[list[tuple[Moment, Natural]], Field(min_length=1, max_length=MAX_CHANGES)] | None = None
    rates_until: Moment | None = None  # until when that is stated, epoch seconds (rates)
    # The brokers to which meters send, the first one first, with these meters; all others use their own order (assign).
    orders: list[tuple[Brokers, list[Id64]]] | None = None
    # The version of the release that the controller is to run, as Debian writes it (upgrade).
    release: Annotated[str, Field(pattern=r"^[0-9][0-9A-Za-z.+~-]{0,23}$")] | None = None
    # The checksums of its packages, one for each processor, with commas between (upgrade); of a bundle (unpack).
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}(,[0-9a-f]{64}){0,2}$")] | None = None
    # Meters of the places that must not be cut, such as with a medical device; all others may be (spare).
    spared: Annotated[list[Id64], Field(max_length=MAX_SPARED)] | None = None
    month: Annotated[str, Field(pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])$")] | None = None  # of bills (witness)
    code: CheckCode | None = None  # the check code that the controller is to sign (witness)
    replaces: CheckCode | None = None  # the code of the cancelled run in whose place it is (witness)
    microgrid: Annotated[str, Field(max_length=16)] | None = None  # the microgrid that another command is for (hosted)
    epoch: Epoch | None = None  # the epoch under which the controller manages it; another one is refused (hosted)
    command: "ControllerCommand | None" = None  # that command, with the same id (hosted)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.cmd in ACTIONS:
            action = Action(self.cmd)
            needed = action.needed + (("for_s",) if self.state == "on" and "for_s" in action.optional else ())
            if missing := [key for key in needed if getattr(self, key) is None]:
                raise ValueError(f"{self.cmd} needs {missing[0]}")
        if self.cmd == HOSTED and None in (self.microgrid, self.epoch, self.command):
            raise ValueError("hosted needs microgrid, epoch and command")
        if self.cmd == Action.SHARING and self.strategy is None and self.weights is None:
            raise ValueError("sharing needs strategy or weights")
        if (put_s := (self.periods or {}).get("put_s")) is not None and (put_s % PUT_S or not 0 < put_s <= MAX_PUT_S):
            raise ValueError(f"periods.put_s: whole minutes up to {MAX_PUT_S} s are wanted")
        times = [time for time, _ in self.changes or ()]
        if any(place >= len(self.prices or ()) for _, place in self.changes or ()):
            raise ValueError("changes: names a price that is not in prices")
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise ValueError("changes: must be in order of time")
        return self


def sent_to(
    controller: ControllerId, microgrid: MicrogridId, epoch: Epoch, command: ControllerCommand
) -> ControllerCommand:
    """Return a command as a controller is sent it: for another microgrid than its own, wrapped."""
    if controller == microgrid:
        return command
    return ControllerCommand(
        id=command.id, cmd=HOSTED, until=command.until, microgrid=microgrid, epoch=epoch, command=command
    )


MAX_REPORT_BYTES = 65_536  # most bytes of a report as it is compressed
MAX_CHAIN = 8_192  # most characters of a certificate and its enrolment certificate
MAX_OUTCOME_BYTES = 90_000  # most bytes of an outcome, of which only a report needs as many
MOST_LISTED = 50  # most lines of each list in one outcome, so that it stays below ``MAX_COMMAND_BYTES``


class Assigned(MessagePart):
    """A microgrid of which a controller has a store."""

    microgrid: Annotated[str, Field(max_length=16)]
    manages: bool  # whether it manages the microgrid; otherwise it takes its records
    epoch: Epoch | None = None  # the epoch under which it, or another controller, manages; ``None``: not known


class Outstanding(MessagePart):
    """A state that the utility has set, or a command that is not confirmed yet."""

    what: Annotated[str, Field(max_length=64)]  # the state or command
    meter: Id64 | None = None  # the meter that has not confirmed it; ``None``: it is of the microgrid
    time: Moment | None = None  # when it was set, or last sent to its meter; ``None``: before a restart
    until: Moment | None = None  # when it ends; ``None``: when a command ends it


class ControllerOutcome(Answer):
    """A gateway's answer to a command of the utility."""

    sent: Natural | None = None  # how many blocks are on their way (get)
    absent: list[BlockMask] | None = None  # slots asked for that the gateway does not have (get)
    info: dict[str, str | int] | None = None  # facts about the controller, by name (system_info)
    # The microgrids of which it has a store, the highest epochs first (system_info).
    assignments: Annotated[list[Assigned], Field(max_length=MOST_LISTED)] | None = None
    # What is outstanding, the newest first (system_info).
    outstanding: Annotated[list[Outstanding], Field(max_length=MOST_LISTED)] | None = None
    # The controller's public key and its signature by Ed25519 of ``witnessed_text``, hexadecimal (witness).
    signed: Annotated[str, Field(pattern="^[0-9a-f]{192}$")] | None = None
    # The signature of that key by the controller's certificate, hexadecimal; and the certificate, with the enrolment
    # certificate that issued it, if one did (PEM) (witness).
    bound: Annotated[str, Field(pattern="^([0-9a-f]{2}){8,72}$")] | None = None
    certificate: Annotated[str, Field(max_length=MAX_CHAIN)] | None = None
    # What the controller says of itself, or what its adapter discovered (JSON): text, compressed by zstandard, in base
    # 85 (report, discover).
    report: Annotated[str, Field(max_length=MAX_REPORT_BYTES * 5 // 4)] | None = None

    @property
    def in_force(self) -> Epoch | None:
        """The epoch that a controller names as the one in force when it refuses a command; ``None``: it names none."""
        found = _IN_FORCE.fullmatch(self.reason or "") if self.result == "refused" else None
        return None if found is None else (int(found[1]), int(found[2]))

    @property
    def has_no_store(self) -> bool:
        """Whether the controller has no store of the microgrid that the command is for; an older release has none."""
        is_refused = self.result == "refused" and (self.reason or "").endswith(NOT_HERE)
        return self.cmd == HOSTED and (is_refused or self.result == "unsupported")
