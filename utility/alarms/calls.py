"""Whom alarms call, and when: critical ones at once, all others in one message a day (pure).

Alarms of one name are one cause. A cause calls at most once an hour: when an alarm of it is new, and again after 1, 2,
4 hours and so on while one of its alarms waits for a person.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from commonwatt.model.units import EpochSeconds
from utility.alarms.alarm import Alarm, Severity, places
from utility.alarms.board import AlarmRow, AlarmState

CALL_S = 3_600  # least seconds between two calls for one cause
LONGEST_S = 86_400  # most seconds between two calls while an alarm of it waits for a person
_NAMED = 20  # most alarms of a cause that a message lists


@dataclass(frozen=True, kw_only=True)
class Called:
    """What a cause was called for."""

    keys: frozenset[str]  # the keys of its alarms that a call named
    times: int = 1  # calls since none of its alarms waited
    last: EpochSeconds  # when the last call was


@dataclass(frozen=True, kw_only=True)
class CallText:
    """What people are told."""

    title: str  # one line
    text: str  # the lines below it


def due(rows: Iterable[AlarmRow], called: Mapping[str, Called], now: EpochSeconds) -> dict[str, list[Alarm]]:
    """Return the causes, by name, that call now, with all of their critical alarms that wait for a person."""
    found = {}
    for name, alarms in _causes(rows, Severity.CRITICAL).items():
        before = called.get(name)
        if before is None:
            found[name] = alarms
            continue
        passed_s = max(0, now - before.last)
        is_new = any(alarm.key not in before.keys for alarm in alarms)
        if passed_s >= (CALL_S if is_new else min(LONGEST_S, CALL_S * 2 ** (before.times - 1))):
            found[name] = alarms
    return found


def after(
    rows: Iterable[AlarmRow], called: Mapping[str, Called], made: Mapping[str, list[Alarm]], now: EpochSeconds
) -> dict[str, Called]:
    """Return what was called for after the calls ``made``; a cause that is over is kept for an hour."""
    waiting = _causes(rows, Severity.CRITICAL)
    kept = {name: one for name, one in called.items() if name in waiting or 0 <= now - one.last < CALL_S}
    for name, alarms in made.items():
        times = kept[name].times + 1 if name in kept else 1
        kept[name] = Called(keys=frozenset(alarm.key for alarm in alarms), times=times, last=now)
    return kept


def call(town: str, alarms: list[Alarm], first: str, link: str) -> CallText:
    """Return the message of a cause.

    Args:
        first: What its runbook says to do.
        link: The address of its runbook.
    """
    head = alarms[0].summary
    if len(alarms) > 1:
        head = f"{head.rstrip('.')}, and {len(alarms) - 1} more like it"
    where = places(alarm.place for alarm in alarms)
    return CallText(
        title=f"{town}: {head}", text="\n\n".join([_listed(alarms), f"Do first: {first}", f"{where}: {link}"])
    )


def digest(town: str, rows: Iterable[AlarmRow], link: str) -> CallText | None:
    """Return the message of a day: what waits for a person; ``None``: nothing does."""
    waiting = [row.alarm for row in rows if row.state is AlarmState.ACTIVE]
    if not waiting:
        return None
    critical = sum(alarm.severity is Severity.CRITICAL for alarm in waiting)
    title = f"{town}: {len(waiting)} alarms wait for a person" + (f", {critical} of them critical" if critical else "")
    return CallText(title=title, text="\n\n".join([_listed(waiting), link]))


def _listed(alarms: list[Alarm]) -> str:
    lines = [f"- {alarm.summary} {alarm.description}".rstrip() for alarm in alarms[:_NAMED]]
    more = len(alarms) - _NAMED
    return "\n".join([*lines, f"- and {more} more"] if more > 0 else lines)


def _causes(rows: Iterable[AlarmRow], severity: Severity) -> dict[str, list[Alarm]]:
    waiting = [row.alarm for row in rows if row.state is AlarmState.ACTIVE and row.alarm.severity is severity]
    ordered = sorted(waiting, key=lambda alarm: (alarm.name, alarm.since, alarm.key))
    return {name: list(alarms) for name, alarms in groupby(ordered, key=lambda alarm: alarm.name)}
