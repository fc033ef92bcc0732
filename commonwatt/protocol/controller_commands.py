"""The utility's commands to a gateway, and their outcomes: JSON on the head-end (C7, docs/protocol.md).

``ACTIONS`` is the complete list. A command sets something for the whole microgrid until its end, or asks for something
once; each is answered. A gateway answers ``unsupported`` to a command that it does not have.
"""

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from commonwatt.model.supply import SupplyState
from commonwatt.protocol.commands import Result, Weight
from commonwatt.protocol.json_messages import Id64, Message, Moment, Natural

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


Strategy = Literal["spec", "aces", "rangers"]
"""How the batteries of a microgrid share (docs/control.md)."""


StrategyOrFile = Literal["spec", "aces", "rangers", "file"]
"""A strategy, or the one of the gateway's settings file again."""


MetersMode = Literal["none", "lossless"]
"""How all meters aggregate from their start on (A5)."""


Money = Annotated[str, Field(pattern=r"^[0-9]{1,4}(\.[0-9]{1,6})?$")]
"""Dollars, exact."""


PeriodPrices = tuple[Annotated[str, Field(min_length=1, max_length=32)], Money, Money]
"""(period of time of use, price of import, price of credit), dollars per kWh."""


MAX_CHANGES = 500
"""Most changes of the price in one command."""


class Action(StrEnum):
    """A command to a gateway."""

    GET = "get"
    AGGREGATE = "aggregate"
    DEAGGREGATE = "deaggregate"
    SCHEDULE = "schedule"
    SHARING = "sharing"
    REDUCE = "reduce"
    SUPPLY = "supply"
    NOTICE = "notice"
    ISOLATE = "isolate"
    HOLD = "hold"
    STOP = "stop"
    RATES = "rates"
    SYSTEM_INFO = "system_info"
    TERM = "term"


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The keys of a command, beside ``id``, ``cmd`` and ``until``.

    Attributes:
        needed: Keys without which it is refused.
        optional: Further keys.
    """

    needed: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


ACTIONS: dict[Action, Keys] = {
    Action.GET: Keys(optional=("blocks", "first_quarter", "last_quarter")),
    Action.AGGREGATE: Keys(optional=("at", "mode", "for_s")),
    Action.DEAGGREGATE: Keys(optional=("at",)),
    Action.SCHEDULE: Keys(needed=("periods",), optional=("meters",)),
    Action.SHARING: Keys(optional=("strategy", "weights", "from_time")),
    Action.REDUCE: Keys(needed=("state",), optional=("for_s",)),
    Action.SUPPLY: Keys(needed=("supply", "for_s"), optional=("import_limit_w",)),
    Action.NOTICE: Keys(needed=("power", "for_s")),
    Action.ISOLATE: Keys(needed=("state",), optional=("for_s",)),
    Action.HOLD: Keys(needed=("state",), optional=("for_s",)),
    Action.STOP: Keys(needed=("meter", "state")),
    Action.RATES: Keys(needed=("tariff", "version", "prices", "changes", "rates_until")),
    Action.SYSTEM_INFO: Keys(),
    Action.TERM: Keys(needed=("counter",)),
}
"""Every command of this version. Coming, and ``unsupported`` until then: ``assign``."""


class ControllerCommand(Message):
    """A command of the utility to a gateway, on the head-end.

    Attributes:
        id: The utility's id for it; the same id again is the same command.
        cmd: What to do, an ``Action``; any other word is answered ``unsupported``.
        until: When the command itself is no longer wanted.
        at: Where to aggregate: the relay (``gateway``), or the meters' logs (``meters``).
        mode: How to aggregate.
        for_s: For how many seconds from its arrival it holds, a hold at most to ``until``; absent (aggregate): until
            deaggregated.
        blocks: The slots wanted (get).
        first_quarter: First quarter wanted whole (get).
        last_quarter: Last quarter wanted whole (get).
        periods: Settings of the gateway by name (``collect_s``, ``levels_s``, ``relay_s``, ``compact_s``), seconds;
            ``None``: what the gateway's file says.
        meters: How all meters aggregate their records, from their ``initialize`` on (schedule); absent: as before.
        strategy: How batteries share; ``file``: as the settings file says; absent: as before (sharing).
        weights: Share of each donor's discharge relative to others, by meter; empty: what the file says; absent: as
            before (sharing).
        from_time: From when that holds, epoch seconds; absent: at once (sharing).
        state: ``on`` or ``off`` (reduce, isolate, hold, stop); ``on`` needs ``for_s``, but not for a stop.
        meter: The meter that shuts down, or starts up again (stop).
        supply: The state of the regional supply (supply).
        import_limit_w: Most watts that the microgrid may take from the town; absent: no limit (supply).
        power: What the utility knows of the microgrid's feeder: its power is ``lost`` or ``back`` (notice).
        tariff: The name of a tariff (rates).
        version: Its version, the newest that holds in the time told (rates).
        prices: Its periods with their prices (rates).
        changes: From when which of them holds: epoch seconds, place in ``prices``; ascending (rates).
        rates_until: Until when that is told, epoch seconds (rates).
        counter: Counter of the epoch from which the gateway commands its meters; a lower one changes nothing (term).
    """

    id: Annotated[str, Field(max_length=64)]
    cmd: Annotated[str, Field(max_length=32)]
    until: Moment
    at: Literal["gateway", "meters"] = "gateway"
    mode: Literal["lossless", "lossy"] = "lossless"
    for_s: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    blocks: list[BlockMask] | None = None
    first_quarter: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    last_quarter: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    periods: dict[Period, Annotated[int, Field(ge=15, le=86_400)] | None] | None = None
    meters: MetersMode | None = None
    strategy: StrategyOrFile | None = None
    weights: dict[Id64, Weight] | None = None
    from_time: Moment | None = None
    state: Literal["on", "off"] | None = None
    meter: Id64 | None = None
    supply: SupplyState | None = None
    import_limit_w: Natural | None = None
    power: Literal["lost", "back"] | None = None
    tariff: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] | None = None
    version: Annotated[int, Field(ge=1, lt=2**15)] | None = None
    prices: Annotated[list[PeriodPrices], Field(min_length=1, max_length=100)] | None = None
    changes: Annotated[list[tuple[Moment, Natural]], Field(min_length=1, max_length=MAX_CHANGES)] | None = None
    rates_until: Moment | None = None
    counter: Annotated[int, Field(ge=1, lt=2**32 - 1)] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.cmd in ACTIONS:
            keys = ACTIONS[Action(self.cmd)]
            needed = keys.needed + (("for_s",) if self.state == "on" and "for_s" in keys.optional else ())
            if missing := [key for key in needed if getattr(self, key) is None]:
                raise ValueError(f"{self.cmd} needs {missing[0]}")
        if self.cmd == Action.SHARING and self.strategy is None and self.weights is None:
            raise ValueError("sharing needs strategy or weights")
        times = [time for time, _ in self.changes or ()]
        if any(place >= len(self.prices or ()) for _, place in self.changes or ()):
            raise ValueError("changes: names a price that is not in prices")
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise ValueError("changes: must be in order of time")
        return self


class ControllerOutcome(Message):
    """A gateway's answer to a command of the utility.

    Attributes:
        id: The command's id.
        cmd: The command.
        result: What became of it.
        reason: Why, when it was not done.
        time: The gateway's time.
        sent: How many blocks are on their way (get).
        absent: Slots asked for that the gateway does not have (get).
        info: Facts about the controller, by name (system_info).
    """

    id: Annotated[str, Field(max_length=64)]
    cmd: Annotated[str, Field(max_length=32)]
    result: Result
    reason: Annotated[str, Field(max_length=256)] | None = None
    time: Moment
    sent: Natural | None = None
    absent: list[BlockMask] | None = None
    info: dict[str, str | int] | None = None
