"""Decides on what waited for the utility's clock to be confirmed: it is released, or refused as from the future."""

import logging
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, select, update

from commonwatt.codec.packing import pack
from commonwatt.model.blocks import make_blocks
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import Log, RecordType, unpack_event
from commonwatt.model.units import QUARTER_S, EpochSeconds
from commonwatt.protocol.dead_letters import Kept, LocalReason, quarantined_blocks
from utility.access.actor import MACHINE
from utility.database.database import Database
from utility.outbox.changes import Append, Change
from utility.readings.store.dead_letters import dead_letter_of, is_in
from utility.readings.store.quarantine import QUARANTINED, REFUSED, RELEASED, Decision, decide
from utility.readings.tables import dead_letter
from utility.registry.store.registry import load_snapshot

AT_ONCE = 1_000  # most dead letters of one step

WHY = "the utility's clock is confirmed"

log = logging.getLogger(__name__)


def release_confirmed(
    database: Database,
    commit: Callable[[Sequence[Change]], object],
    after: int,
    *,
    latest: EpochSeconds,
    now: EpochSeconds,
) -> int | None:
    """Decide on some dead letters that waited; return the last one's number, ``None``: no later one waits.

    Args:
        commit: Commits changes, for events.
        after: Dead letters up to this number were looked at.
        latest: Latest possible present time by the confirmed clock.
    """
    c = dead_letter.c
    waiting = is_in(QUARANTINED) & (c.reason == LocalReason.AHEAD) & (c.no > after)
    with database.reads.begin() as connection:
        rows = connection.execute(select(dead_letter).where(waiting).order_by(c.no).limit(AT_ONCE)).all()
        meters = load_snapshot(connection).meters if rows else {}
    kept = [dead_letter_of(row) for row in rows]
    ends = {one.no: _end(one) for one in kept if one.dead_letter.meter in meters}
    events = {one.no: one for one in kept if one.no in ends and one.dead_letter.log == Log.EVENT}
    # Committed again after a kill, an event changes nothing.
    if due := [_append(e, meters[e.dead_letter.meter].microgrid, now) for e in events.values() if ends[e.no] <= latest]:
        commit(due)
    with database.writes.begin() as connection:
        for no, end in ends.items():
            state = RELEASED if end <= latest else REFUSED
            _decide(connection, Decision(no, state, MACHINE, WHY, now), is_event=no in events)
    return kept[-1].no if len(kept) == AT_ONCE else None


def _end(kept: Kept) -> EpochSeconds:
    if kept.dead_letter.log == Log.EVENT:
        return unpack_event(kept.dead_letter.content).time
    blocks = quarantined_blocks(kept.dead_letter, RecordType)
    return 0 if blocks is None else (int(blocks.quarter.max()) + 1) * QUARTER_S


def _append(kept: Kept, owner: str, now: EpochSeconds) -> Append:
    none, event = make_blocks([], [], []), unpack_event(kept.dead_letter.content)
    events = [(kept.dead_letter.generation, event)]
    return Append(
        sender=kept.sender, owner=owner, received=now, blocks=none, payloads=pack(none), events=events, dead_letters=[]
    )


def _decide(connection: Connection, decision: Decision, *, is_event: bool) -> None:
    if is_event:
        values = {"state": decision.state, "decided": decision.time, "decided_by": decision.who, "why": decision.why}
        connection.execute(update(dead_letter).where(dead_letter.c.no == decision.no).values(values))
        return
    try:
        decide(connection, decision)
    except ConfigError as error:
        log.warning("%s", error)  # a person has just decided
