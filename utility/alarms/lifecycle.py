"""The life of the utility's own alarms: a condition waits, as an alert of Prometheus does, stands, and ends.

    found:      absent → waiting (or standing, if it need not wait) → standing once it has lasted
    not found:  waiting → absent; standing → ended; unchanged while it can't be judged

A condition that passes by itself in time is no alarm. ``since`` is when the condition began, also across restarts.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from commonwatt.model.units import EpochSeconds
from utility.alarms.alarm import Alarm


class Stage(StrEnum):
    """The stage of an own alarm."""

    WAITING = "waiting"  # the condition holds, and may pass
    STANDING = "standing"  # it lasted: people see it
    ENDED = "ended"  # it is over; kept for people who look back


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A condition that holds now."""

    alarm: Alarm  # the alarm that it is; its ``since`` does not count
    for_s: int  # clock seconds that it must last
    held_s: int = 0  # clock seconds that it has lasted at least, as far as is known without the lives before


@dataclass(frozen=True, kw_only=True)
class Life:
    """An own alarm."""

    alarm: Alarm  # the alarm, with its texts as last found
    stage: Stage  # its stage
    ended: EpochSeconds | None = None  # when it ended; ``None``: it did not


def advance(
    lives: Mapping[str, Life], found: Iterable[Condition], now: EpochSeconds, is_judged: Callable[[Alarm], bool]
) -> dict[str, Life]:
    """Return the lives, by key, after the conditions ``found`` at ``now``.

    Ended ones are returned once, and must not be given again. A clock set back begins a condition anew.

    Args:
        is_judged: Whether an alarm that was not found is over; else it can't be said now.
    """
    after: dict[str, Life] = {}
    for condition in found:
        alarm = condition.alarm
        before = lives.get(alarm.key)
        since = now - condition.held_s if before is None else min(before.alarm.since, now)
        stood = before is not None and before.stage is Stage.STANDING
        stage = Stage.STANDING if stood or now - since >= condition.for_s else Stage.WAITING
        after[alarm.key] = Life(alarm=replace(alarm, since=since), stage=stage)
    for key, life in lives.items():
        if key in after:
            continue
        if not is_judged(life.alarm):
            after[key] = life
        elif life.stage is Stage.STANDING:
            after[key] = replace(life, stage=Stage.ENDED, ended=now)
    return after
