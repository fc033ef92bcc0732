"""How far the gateways are in refilling a database that was lost, from their heartbeats; pure (docs/stores.md)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from commonwatt.model.units import ControllerId, EpochSeconds, MicrogridId
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.heartbeats import Refilling as Told
from utility.readings.columns import Refilling

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
