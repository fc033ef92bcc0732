"""Quarantined readings: released into the blocks, or refused for good."""

from collections.abc import Sequence

from commonwatt.model.blocks import Blocks
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from utility.access.actor import Actor
from utility.store.audit_log import record
from utility.store.database import Database
from utility.store.quarantine import MAX_WHO, MAX_WHY, QUARANTINED, Decision, decide

MAX_AT_ONCE = 1_000
"""Most dead letters that one step decides on."""


def decide_letters(
    database: Database, decisions: Sequence[tuple[int, str]], actor: Actor, why: str, now: EpochSeconds
) -> list[tuple[int, str, Blocks]]:
    """Release or refuse the readings of dead letters, all or none; return number, state and readings of each.

    Args:
        database: The database.
        decisions: The dead letters' numbers, each with ``RELEASED`` or ``REFUSED``.
        actor: The person who decides.
        why: The reason; may be empty.
        now: The time.

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
            blocks = decide(connection, Decision(no, state, actor.name, why, now))
            done.append((no, state, blocks))
            words = {"state": state, "meter": str(blocks.key(0)[0]), "why": why}
            record(connection, actor, now, "reading.decide", f"dead letter {no}", {"state": QUARANTINED}, words)
    return done
