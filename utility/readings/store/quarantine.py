"""Quarantined readings: dead letters and slots until a person, or the confirmed clock, releases or refuses them."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from commonwatt.codec.packing import pack
from commonwatt.look.dead_letter_words import text_of
from commonwatt.model.blocks import Blocks, make_blocks
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import Log, RecordType, unpack_event
from commonwatt.model.units import QUARTER_S, ControllerId, EpochSeconds, MeterId, signed64
from commonwatt.protocol.dead_letters import KeptDeadLetter, LocalReason, quarantined_blocks
from utility.access.people import MACHINE
from utility.database.bulk import is_one_of, listed
from utility.database.checks import is_sound
from utility.database.database import Database, count_rows
from utility.outbox.changes import Append, UtilityChange
from utility.readings.flows import masks
from utility.readings.store.dead_letters import dead_letter_of, is_in
from utility.readings.store.parts import chunks
from utility.readings.store.quarters import keep_first
from utility.readings.tables import dead_letter, part, quarantined
from utility.registry.store.registry import NOBODY, controller_numbers, load_snapshot
from utility.registry.tables import meter

QUARANTINED = "quarantined"
RELEASED = "released"
REFUSED = "refused"

MAX_WHO = 64
MAX_WHY = 200

Key = tuple[int, int, int]  # (number of the meter, record type, quarter)

_QUARANTINED = (
    select(quarantined, dead_letter.c.state)
    .join(dead_letter, dead_letter.c.no == quarantined.c.letter_no)
    .where(is_one_of((quarantined.c.meter_no, quarantined.c.record_type, quarantined.c.quarter)))
)


@dataclass(frozen=True)
class QuarantineDecision:
    """A person's decision on a dead letter with quarantined readings."""

    no: int  # the dead letter's number
    state: str  # ``RELEASED`` or ``REFUSED``
    who: str  # the person
    why: str  # the person's reason; may be empty
    time: EpochSeconds  # time of the decision


def note_slots(connection: Connection, letter_no: int, number: int, blocks: Blocks) -> None:
    """Record the slots of a new dead letter with quarantined readings."""
    rows = [
        {"meter_no": number, "record_type": kind, "quarter": quarter, "letter_no": letter_no, "mask": mask}
        for (_, kind, quarter), mask in zip(blocks.keys(), masks(blocks).tolist(), strict=True)
    ]
    connection.execute(quarantined.insert(), rows)


def decide(connection: Connection, decision: QuarantineDecision) -> Blocks:
    """Release a dead letter's readings into the blocks, or refuse them for good; return the readings.

    Raises:
        ConfigError: There is no such dead letter, it is not quarantined, or its meter is no longer registered.
    """
    row = connection.execute(select(dead_letter).where(dead_letter.c.no == decision.no)).one_or_none()
    if row is None:
        raise ConfigError(f"dead letter {decision.no}: there is none", "see: commonwatt show dead-letters")
    if row.state != QUARANTINED:
        words = text_of(row.decided, row.decided_by, row.why)
        what = f"is {row.state} already, by {words}" if row.state else "is not quarantined"
        raise ConfigError(f"dead letter {decision.no}: {what}", "see: commonwatt show dead-letters state=quarantined")
    kept = dead_letter_of(row).dead_letter
    if kept.log == Log.EVENT:
        raise ConfigError(f"dead letter {decision.no}: is an event; it is decided on by itself, by a confirmed clock")
    owner = _registered(connection, kept.meter)
    # The readings fitted the meter's registration on arrival; the registration may have changed since.
    blocks = quarantined_blocks(kept, RecordType)
    if blocks is None or owner is None:
        raise ConfigError(f"dead letter {decision.no}: has no readings of a registered meter; see: register")
    decided = (
        update(dead_letter)
        .where(dead_letter.c.no == decision.no, dead_letter.c.state == QUARANTINED)
        .values(state=decision.state, decided=decision.time, decided_by=decision.who, why=decision.why)
    )
    if not connection.execute(decided).rowcount:
        raise ConfigError(
            f"dead letter {decision.no}: another person has just decided", "see: commonwatt show dead-letters"
        )
    if decision.state == RELEASED:
        connection.execute(delete(quarantined).where(quarantined.c.letter_no == decision.no))
        _append(connection, blocks, owner, row.sender, decision.time)
    return blocks


def _registered(connection: Connection, meter_id: MeterId) -> Row[Any] | None:
    """Return the row of a registered meter; ``None``: it is not registered, or its row is damaged."""
    row = connection.execute(select(meter).where(meter.c.id == signed64(meter_id))).one_or_none()
    return row if row is not None and is_sound(meter, row) else None


def _append(connection: Connection, blocks: Blocks, owner: Row[Any], sender: ControllerId, now: EpochSeconds) -> None:
    """Append the released readings as parts, like late data."""
    numbers = controller_numbers(connection)
    origin = {
        "meter_no": owner.no,
        "sender_no": numbers.get(sender, NOBODY),
        "owner_no": numbers[owner.microgrid],
        "received_minute": now // 60,
    }
    rows = [
        origin | {"record_type": kind, "quarter": quarter, "payload": payload}
        for (_, kind, quarter), payload in zip(blocks.keys(), pack(blocks), strict=True)
    ]
    connection.execute(part.insert(), rows)
    keep_first(connection, {(owner.no, rows[0]["record_type"]): int(blocks.quarter.min())})


def masks_of(connection: Connection, keys: Iterable[Key]) -> dict[Key, tuple[int, int]]:
    """Return the masks (quarantined, refused) of the blocks that have such slots."""
    found: dict[Key, tuple[int, int]] = {}
    if connection.execute(select(quarantined.c.letter_no).limit(1)).first() is None:
        return found
    for some in chunks(list(keys)):
        for row in connection.execute(_QUARANTINED, listed(some)):
            key = row.meter_no, row.record_type, row.quarter
            waiting, refused = found.get(key, (0, 0))
            found[key] = (waiting | row.mask, refused) if row.state == QUARANTINED else (waiting, refused | row.mask)
    return found


def masks_between(
    connection: Connection, series_keys: Sequence[tuple[int, int]], first: int, end: int
) -> dict[Key, tuple[int, int]]:
    """Return these masks for all blocks of some meters' record types, quarters ``first`` to ``end`` - 1."""
    within = quarantined.c.quarter.between(first, end - 1) & is_one_of(
        (quarantined.c.meter_no, quarantined.c.record_type)
    )
    keys = {
        (row.meter_no, row.record_type, row.quarter)
        for row in connection.execute(select(quarantined).where(within).distinct(), listed(series_keys))
    }
    return masks_of(connection, keys)


def count_quarantined(connection: Connection) -> int:
    """Return how many dead letters wait for a person's decision."""
    return count_rows(connection, dead_letter, is_in(QUARANTINED))


AT_ONCE = 1_000  # most dead letters of one step

WHY = "the utility's clock is confirmed"

log = logging.getLogger(__name__)


def release_confirmed(
    database: Database,
    commit: Callable[[Sequence[UtilityChange]], object],
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
    if due := [_event(e, meters[e.dead_letter.meter].microgrid, now) for e in events.values() if ends[e.no] <= latest]:
        commit(due)
    with database.writes.begin() as connection:
        for no, end in ends.items():
            state = RELEASED if end <= latest else REFUSED
            _decide(connection, QuarantineDecision(no, state, MACHINE, WHY, now), is_event=no in events)
    return kept[-1].no if len(kept) == AT_ONCE else None


def _end(kept: KeptDeadLetter) -> EpochSeconds:
    if kept.dead_letter.log == Log.EVENT:
        return unpack_event(kept.dead_letter.content).time
    blocks = quarantined_blocks(kept.dead_letter, RecordType)
    return 0 if blocks is None else (int(blocks.quarter.max()) + 1) * QUARTER_S


def _event(kept: KeptDeadLetter, owner: str, now: EpochSeconds) -> Append:
    none, event = make_blocks([], [], []), unpack_event(kept.dead_letter.content)
    events = [(kept.dead_letter.generation, event)]
    return Append(
        sender=kept.sender, owner=owner, received=now, blocks=none, payloads=pack(none), events=events, dead_letters=[]
    )


def _decide(connection: Connection, decision: QuarantineDecision, *, is_event: bool) -> None:
    if is_event:
        values = {"state": decision.state, "decided": decision.time, "decided_by": decision.who, "why": decision.why}
        connection.execute(update(dead_letter).where(dead_letter.c.no == decision.no).values(values))
        return
    try:
        decide(connection, decision)
    except ConfigError as error:
        log.warning("%s", error)  # a person has just decided
