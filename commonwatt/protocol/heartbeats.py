"""The heartbeat of a gateway, with its backlog, periods and the byte counts of its line (P4, docs/protocol.md)."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from commonwatt.protocol.controller_commands import MetersMode, Strategy
from commonwatt.protocol.json_messages import Id64, Message, Moment, Natural


class LineByteCount(Message):
    """The byte count of meters' connections on the LTE line, from the broker to its gateway.

    Attributes:
        run: A random number of the broker's process; the sums begin at 0 with it.
        sent: IP bytes sent to meters.
        received: IP bytes received from them.
    """

    run: Id64
    sent: Natural
    received: Natural


class Month(BaseModel):
    """Use of an LTE line this month. Pairs are up (sent by the controller) and down (received).

    Attributes:
        used: IP bytes since the month began.
        expected: Projected bytes at the month's end, from the last days' use; ``None``: not known yet.
        allowance: Allowance of the plan in a month, each way.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    used: tuple[Natural, Natural]
    expected: tuple[Natural, Natural] | None = None
    allowance: Natural

    @property
    def level(self) -> Literal["unknown", "ok", "at_risk", "exceeded"]:
        """Severity of the use."""
        if max(self.used) > self.allowance:
            return "exceeded"
        if self.expected is None:
            return "unknown"
        return "at_risk" if max(self.expected) > self.allowance else "ok"


class Heartbeat(Message):
    """A gateway's heartbeat; QoS 0, the next one replaces it.

    Attributes:
        time: The gateway's time.
        store: Random id of its store.
        backlog_parts: Parts of blocks the utility has not acknowledged.
        backlog_events: Events.
        backlog_letters: Dead letters.
        backlog_age_s: Seconds since the oldest quarter ended of which the utility has not acknowledged every part.
        aggregation: How what it relays is aggregated: ``none``, ``lossless`` or ``lossy``.
        periods: The periods in force, seconds.
        tuned: The names of periods, and ``strategy``, set by the utility instead of the gateway's file.
        strategy: How its batteries share; ``None``: a gateway before 0.3, which does not say it.
        meters: How all meters aggregate from their start on; ``None``: as above.
        ends: When what a command set ends, of ``aggregation``, ``reduce`` and ``isolate``; absent: it is not in force,
            or an aggregation has no end.
        lasts_until: When the batteries of an island, or of the public microgrid, are empty at the last hour's mean;
            ``None``: it is neither, they gain, it is not known, or an older gateway.
        minima: By meter, the sharing minimum in percent and when the meter reported it (T6).
        trust: How far its time can be trusted, 0 to 3.
        offset_s: By how much its time is ahead of the clock it started with.
        sharing: By battery's meter, the code of the reason why it shares or not (``protocol.sharing_words``); a ``?``
            follows while its meter has not confirmed. A gateway before 0.3 does not say it.
        band_permille: Thousandths of the capacity by which the start of help is delayed.
        fenced: Number of meters that report a higher epoch, so another manager commands them.
        lte: Use of its controller's LTE line; ``None``: not counted yet.
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
    strategy: Strategy | None = None
    meters: MetersMode | None = None
    ends: dict[Literal["aggregation", "reduce", "isolate", "hold"], Moment] = Field(default_factory=dict)
    lasts_until: Moment | None = None
    minima: dict[Id64, tuple[Annotated[int, Field(ge=0, le=100)], Moment]] = Field(default_factory=dict)
    trust: Annotated[int, Field(ge=0, le=3)] = 0
    offset_s: Annotated[int, Field(ge=-(2**53), le=2**53)] = 0
    sharing: dict[Id64, Annotated[str, Field(max_length=20)]] = Field(default_factory=dict)
    band_permille: Annotated[int, Field(ge=0, le=1000)] = 0
    fenced: Natural = 0
    lte: Month | None = None
