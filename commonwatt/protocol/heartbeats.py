"""The heartbeat of a gateway, with its backlog, periods and the byte counts of its line (P4, docs/protocol.md)."""

from typing import Annotated, Literal

from pydantic import Field

from commonwatt.model.units import MilliwattHours
from commonwatt.protocol.commands import Epoch, ForeignDevice
from commonwatt.protocol.controller_commands import MetersMode, Strategy
from commonwatt.protocol.json_messages import Id64, Message, MessagePart, Moment, Natural


class LineByteCount(Message):
    """The byte count of meters' connections on the LTE line, from the broker to its gateway."""

    run: Id64  # a random number of the broker's process; the sums begin at 0 with it
    sent: Natural  # IP bytes sent to meters
    received: Natural  # IP bytes received from them


class LineMonth(MessagePart):
    """Use of an LTE line this month. Pairs are up (sent by the controller) and down (received)."""

    used: tuple[Natural, Natural]  # IP bytes since the month began
    # Projected bytes at the month's end, from the last days' use; ``None``: not known yet.
    expected: tuple[Natural, Natural] | None = None
    allowance: Natural  # allowance of the plan in a month, each way

    @property
    def level(self) -> Literal["unknown", "ok", "at_risk", "exceeded"]:
        """Severity of the use."""
        if max(self.used) > self.allowance:
            return "exceeded"
        if self.expected is None:
            return "unknown"
        return "at_risk" if max(self.expected) > self.allowance else "ok"


class MeanPower(MessagePart):
    """The mean power of a microgrid in a whole minute."""

    end: Moment  # when the minute ended
    sun_w: Natural  # generated, watts
    use_w: Natural  # used by the homes, losses included
    import_w: Natural  # taken from the town
    export_w: Natural  # given to the town
    between_w: Natural = 0  # given by homes to neighbours in the microgrid; an older gateway does not say it


class Energy(MessagePart):
    """What a controller says of the batteries and the power of a microgrid that it manages."""

    # By battery's meter, the code of the reason why it shares or not (``look.sharing_words``); a ``?`` follows
    # while its meter has not confirmed. A gateway before 0.3 does not say it.
    sharing: dict[Id64, Annotated[str, Field(max_length=20)]] = Field(default_factory=dict)
    # The levels on which it decided, thousandths of the capacities, in the order of ``sharing``; ``None``: not known.
    levels: tuple[Annotated[int, Field(ge=0, le=1000)] | None, ...] = ()
    # The sum of the levels that are known, and the age of the oldest in seconds; ``None``: none is known.
    stored: tuple[MilliwattHours, Natural] | None = None
    power: MeanPower | None = None  # ``None``: no minute with nearly all readings, or an older gateway
    # Thousandths of the capacity by which the start of help is delayed.
    band_permille: Annotated[int, Field(ge=0, le=1000)] = 0


class RefillProgress(MessagePart):
    """How far a gateway is in sending a microgrid's backup again to a utility that lost its store."""

    since: Moment  # when it saw the utility's new store
    begins: Moment  # when it begins to send: public microgrids at once
    parts: Natural | None = None  # parts of blocks to send again; ``None``: not counted yet
    left: Natural  # those of them that the utility has not acknowledged
    per_hour: Natural | None = None  # parts acknowledged in an hour, by the last hour; ``None``: not known
    end: Moment | None = None  # when the last was acknowledged; ``None``: it lasts


TOLD_AT_TIMES = ("program", "devices")  # what a heartbeat has only when it changed, and each hour


class Program(MessagePart):
    """What a gateway says of its program and its machine."""

    release: Annotated[str, Field(max_length=24)]  # its program's
    starts: Natural = 0  # how often the gateway has started with this store
    # Whole days until the first of its certificates ends, below zero after that; ``None``: it has none.
    cert_days: Annotated[int, Field(ge=-(2**31), le=2**31)] | None = None
    disk_days: Natural | None = None  # days until its disk is full, at the rate of the last week; ``None``: it does not


class Heartbeat(Message, Energy):
    """A gateway's heartbeat; QoS 0, the next one replaces it."""

    time: Moment  # the gateway's time
    store: Id64  # random id of its store
    backlog_parts: Natural  # parts of blocks the utility has not acknowledged
    backlog_events: Natural  # events
    backlog_letters: Natural  # dead letters
    # Seconds since the oldest quarter ended of which the utility has not acknowledged every part.
    backlog_age_s: Natural = 0
    # How what it relays is aggregated: ``none``, ``lossless`` or ``lossy``.
    aggregation: Literal["none", "lossless", "lossy"]
    periods: dict[str, Natural] = Field(default_factory=dict)  # the periods in force, seconds
    # The names of periods, and ``strategy``, ``aggregation`` and ``meters``, that the utility set.
    tuned: tuple[str, ...] = ()
    # By reason, what the controller does by itself to save bytes (``model.saving``) where the utility has set nothing;
    # ``None``: nothing.
    saves: dict[Annotated[str, Field(max_length=16)], tuple[Annotated[str, Field(max_length=16)], ...]] | None = None
    strategy: Strategy | None = None  # how its batteries share; ``None``: a gateway before 0.3, which does not say it
    meters: MetersMode | None = None  # how all meters aggregate from their start on; ``None``: as above
    # When what a command set ends, of ``aggregation``, ``reduce`` and ``isolate``; absent: it is not in force, or an
    # aggregation has no end.
    ends: dict[Literal["aggregation", "reduce", "isolate", "hold"], Moment] = Field(default_factory=dict)
    # By meter, the sharing minimum in percent and when the meter reported it (T6).
    minima: dict[Id64, tuple[Annotated[int, Field(ge=0, le=100)], Moment]] = Field(default_factory=dict)
    trust: Annotated[int, Field(ge=0, le=3)] = 0  # how far its time can be trusted, 0 to 3
    # By how much its time is ahead of the clock it started with.
    offset_s: Annotated[int, Field(ge=-(2**53), le=2**53)] = 0
    # The microgrids that this controller manages, with the epoch of each; ``None``: it has no clique, or is older.
    manages: dict[Annotated[str, Field(max_length=16)], Epoch] | None = None
    # Batteries and power of the microgrids that it manages for other controllers.
    hosted: dict[Annotated[str, Field(max_length=16)], Energy] = Field(default_factory=dict)
    fenced: Natural = 0  # number of meters that report a higher epoch, so another manager commands them
    lte: LineMonth | None = None  # use of its controller's LTE line; ``None``: not counted yet
    # By microgrid of which it has a store, a refill that lasts or ended within a day; an older gateway says none.
    refilling: dict[Annotated[str, Field(max_length=16)], RefillProgress] = Field(default_factory=dict)
    # The mark of the last acknowledged data of its own microgrid: a run of the utility's store, and a commit's number;
    # ``None``: none yet, or an older gateway.
    mark: tuple[Natural, Natural] | None = None
    # By meter, the foreign devices; ``None``: as in the heartbeat before, or none. Sent when they change, each hour.
    devices: dict[Id64, ForeignDevice] | None = None
    # Its program; ``None``: as in the heartbeat before, or 0.3 or older. Sent when it changes, each hour.
    program: Program | None = None

    @property
    def release(self) -> str:
        """The release of the gateway's program; empty: 0.3 or older, or not told yet."""
        return "" if self.program is None else self.program.release

    @property
    def commanded_aggregation(self) -> Literal["none", "lossless", "lossy"]:
        """How the utility wants what is relayed to be aggregated; ``none``: as it comes, or as the gateway wants."""
        return self.aggregation if not self.saves or "aggregation" in self.tuned else "none"
