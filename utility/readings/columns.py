"""Rows of requests, refills, dead letters and lines; and how far gateways are in refilling a lost database."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel

from commonwatt.model.units import ControllerId, EpochSeconds, MicrogridId
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.heartbeats import RefillProgress as Told
from utility.webkit.columns import Shown, Time, Written


class Request(BaseModel):
    """A request to a gateway that failed or has no answer yet."""

    kind: Literal["command", "readings"]  # ``readings``: missing ones
    microgrid: str  # whose gateway is asked
    what: str  # what is asked for, for people
    since: Time  # when a command was given; of readings, the start of the oldest quarter-hour
    asked: int  # how often readings were asked for at most; of a command 1
    state: str  # ``open``, ``expired``, ``failed``
    reason: str  # why it failed; empty: it did not, or no reason is known
    expires: Time  # when it is given up, or was


class Refilling(BaseModel):
    """How far a controller's store of a microgrid is in refilling a database that was lost."""

    microgrid: Annotated[str, Shown("Microgrid", link="/console/microgrids/{microgrid}")]
    kind: Annotated[str, Shown("Kind")]  # residential, apartment or public
    controller: Annotated[str, Shown("Controller")]  # whose store has the data
    # ``counting``: marks what it sends again; ``waiting``: for public microgrids; ``not heard``: its controller is not
    state: Annotated[str, Shown("State", Written.STATE, badges={"refilled": "good", "not heard": "bad"})]
    sent: Annotated[int | None, Shown("Blocks so far", Written.NUMBER)] = None  # parts of blocks that were stored again
    parts: Annotated[int | None, Shown("Of", Written.NUMBER)] = None  # all of them; ``None``: not counted yet
    percent: Annotated[int | None, Shown("Percent", Written.NUMBER)] = None  # of them so far
    per_hour: Annotated[int | None, Shown("Blocks an hour", Written.NUMBER)] = None  # by the last hour
    # When it ended, or is expected to at this rate; ``None``: not known.
    end: Annotated[Time | None, Shown("Ended, or expected to end", Written.MOMENT)] = None
    since: Time | None = None  # since when its gateway knows of the new database
    heard: Annotated[Time | None, Shown("Heard", Written.MOMENT)] = None  # its last heartbeat; ``None``: none came


class DeadLetterRow(BaseModel):
    """What was rejected, whole or truncated. ``told``: its content, for people; ``content``: its bytes."""

    no: Annotated[int, Shown("Number")]
    time: Annotated[int, Shown("Time", Written.MOMENT)]
    sender: Annotated[str, Shown("Sender")]
    meter: Annotated[str, Shown("Meter")]
    source: str
    log: int
    generation: int
    id: str
    reason: int
    reason_text: Annotated[str, Shown("Reason")]
    state: Annotated[str | None, Shown("State")]
    decided: str | None
    told: Annotated[str, Shown("Content")]
    content: str


class LteLine(BaseModel):
    """The month's use of a controller's LTE line, bytes; ``None``: its gateway reported none."""

    microgrid: Annotated[str, Shown("Microgrid")]
    level: Annotated[str, Shown("Level")]
    used_up: Annotated[int | None, Shown("Sent", Written.BYTES)]
    used_down: Annotated[int | None, Shown("Received", Written.BYTES)]
    expected_up: Annotated[int | None, Shown("Expected to be sent", Written.BYTES)]
    expected_down: Annotated[int | None, Shown("Expected to be received", Written.BYTES)]
    allowance: Annotated[int | None, Shown("Allowance", Written.BYTES)]
    time: int | None


HEARD_S = 150  # seconds without a heartbeat after which a controller counts as not heard: two are missing


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """A registered controller."""

    controller: ControllerId  # its name
    kind: str  # the kind of its microgrid
    heard: EpochSeconds | None = None  # when its last heartbeat came; ``None``: never
    heartbeat: Heartbeat | None = None  # the heartbeat; ``None``: there is none that can be read


def refilling(gateways: Sequence[Gateway], now: EpochSeconds) -> list[Refilling]:
    """Return the stores that are or were refilled from, and the controllers that are not heard; first the unfinished.

    Between two heartbeats a refill is taken to go on at its rate.
    """
    kinds = {each.controller: each.kind for each in gateways}
    rows = [row for each in gateways for row in _rows(each, kinds, now)]
    return sorted(rows, key=lambda row: (row.state == "refilled", row.state != "not heard"))


def _rows(gateway: Gateway, kinds: Mapping[str, str], now: EpochSeconds) -> Iterator[Refilling]:
    told = {} if gateway.heartbeat is None else gateway.heartbeat.refilling
    is_heard = gateway.heard is not None and now - gateway.heard <= HEARD_S
    for microgrid, one in told.items():
        yield _row(gateway, microgrid, kinds.get(microgrid, ""), one, now, is_heard=is_heard)
    if not is_heard and not told:
        yield Refilling(
            microgrid=gateway.controller,
            kind=gateway.kind,
            controller=gateway.controller,
            state="not heard",
            heard=gateway.heard,
        )


def _row(
    gateway: Gateway, microgrid: MicrogridId, kind: str, told: Told, now: EpochSeconds, *, is_heard: bool
) -> Refilling:
    heard = gateway.heard or 0
    goes_on = is_heard and told.end is None and told.parts is not None
    rate = (told.per_hour or 0) if goes_on else 0
    left = max(0, told.left - rate * max(0, now - heard) // 3600)
    sent = None if told.parts is None else told.parts - left
    return Refilling(
        microgrid=microgrid,
        kind=kind,
        controller=gateway.controller,
        state=_state(told, is_heard=is_heard),
        sent=sent,
        parts=told.parts,
        percent=None if sent is None else 100 * sent // told.parts if told.parts else 100,
        per_hour=rate or None,
        end=told.end or (heard + told.left * 3600 // rate if rate else None),
        since=told.since,
        heard=gateway.heard,
    )


def _state(told: Told, *, is_heard: bool) -> str:
    if told.end is not None:
        return "refilled"
    if not is_heard:
        return "not heard"
    if told.parts is None:
        return "counting"
    return "refilling" if told.left < told.parts or told.per_hour is not None else "waiting"
