"""Quarantined readings: released into the blocks, or refused for good."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.blocks import Blocks
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOTS, EpochSeconds
from commonwatt.protocol.dead_letters import KeptDeadLetter, quarantined_blocks
from utility.access.people import Actor
from utility.access.store.audit_log import record
from utility.database.database import Database
from utility.readings.store import reads
from utility.readings.store.quarantine import MAX_WHO, MAX_WHY, QUARANTINED, QuarantineDecision, decide

Longs = NDArray[np.int64]
Flags = NDArray[np.bool_]

MAX_AT_ONCE = 1_000  # most dead letters that one step decides on
MARGIN = 8  # quarter-hours that are shown before and after quarantined readings


def decide_letters(
    database: Database, decisions: Sequence[tuple[int, str]], actor: Actor, why: str, now: EpochSeconds
) -> list[tuple[int, str, Blocks]]:
    """Release or refuse the readings of dead letters, all or none; return number, state and readings of each.

    Args:
        decisions: The dead letters' numbers, each with ``RELEASED`` or ``REFUSED``.
        actor: The person who decides.
        why: The reason; may be empty.

    Raises:
        ConfigError: A name or a reason is too long, there is no such dead letter, or it was decided meanwhile.
    """
    if len(actor.name) > MAX_WHO or len(why) > MAX_WHY:
        raise ConfigError(f"the person's name may have {MAX_WHO} characters, the reason {MAX_WHY}")
    if not decisions:
        raise ConfigError("choose a dead letter")
    if len(decisions) > MAX_AT_ONCE:
        raise ConfigError(f"at most {MAX_AT_ONCE} dead letters at once")
    done = []
    with database.writes.begin() as connection:
        # In order, so that two people who decide on the same ones wait for each other.
        for no, state in sorted(decisions):
            blocks = decide(connection, QuarantineDecision(no, state, actor.name, why, now))
            done.append((no, state, blocks))
            words = {"state": state, "meter": str(blocks.key(0)[0]), "why": why}
            record(connection, actor, now, "reading.decide", f"dead letter {no}", {"state": QUARANTINED}, words)
    return done


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighbourhood:
    """A quarantined reading among the readings around it."""

    record_type: int  # their record type
    start: EpochSeconds  # start of the first slot
    readings: Longs  # energy, or level, of each slot of 15 s; milliwatt-hours
    there: Flags  # which slots have a reading
    quarantined: Longs  # the values that wait, by slot
    waits: Flags  # which slots have one


def around(database: Database, kept: KeptDeadLetter) -> Neighbourhood | None:
    """Return the readings around those of a dead letter; ``None``: it has no readings of a registered meter."""
    blocks = quarantined_blocks(kept.dead_letter, RecordType)
    number = database.read(reads.meter_number, kept.dead_letter.meter)
    if blocks is None or number is None:
        return None
    kind = int(blocks.record_type[0])
    first, last = int(blocks.quarter.min()) - MARGIN, int(blocks.quarter.max()) + MARGIN
    values, there = _slots(reads.readings(database, number, kind, first, last), first, last)
    waiting, waits = _slots(blocks, first, last)
    return Neighbourhood(
        record_type=kind,
        start=first * QUARTER_S,
        readings=values,
        there=there,
        quarantined=waiting,
        waits=waits,
    )


def _slots(blocks: Blocks, first: int, last: int) -> tuple[Longs, Flags]:
    """Return the values of the slots of some quarters in a row, and which are there."""
    shape = last - first + 1, SLOTS
    values, there = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
    rows = blocks.quarter.astype(np.int64) - first
    values[rows], there[rows] = blocks.values, blocks.quality > 0
    return values.ravel(), there.ravel()
