"""What needs a person, as one short list with which the page of the town begins; equal alarms are one item."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from urllib.parse import urlencode

from commonwatt.energy.hours_left import HoursLeft
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.model.words import counted
from utility.access.roles import Role
from utility.alarms.alarm import PREFIX, Alarm, Severity, places, title
from utility.alarms.board import Row, State
from utility.alarms.conditions import dark_words, is_nearly_dark
from utility.overview.microgrids import Condition, Facts, cell, island_words

LATE_S = 3_600  # seconds without a message, or of the oldest waiting reading, from which on a microgrid is an item

_WATCH = frozenset({Role.VIEWER, Role.OPERATOR, Role.ADMIN})  # who sees what the machines need
_OFFICE = frozenset({Role.VIEWER, Role.CLERK})
_SECOND = frozenset({Role.VIEWER, Role.APPROVER})
# Alarms of a microgrid that is late: it is no item besides, also while somebody sees to them.
_OF_LATE = {f"{PREFIX}GatewaySilent", f"{PREFIX}BacklogOld"}
# Alarms of what other items say: the office's, and those of islands.
_COUNTED_HERE = {f"{PREFIX}{name}" for name in ("ReadingsQuarantined", "FindingsOpen", "Island", "IslandDark")}


@dataclass(frozen=True, kw_only=True)
class Item:
    """Something that needs a person."""

    mark: str  # ``bad``: now; ``warning``: today; ``idle``: a decision that waits
    words: str  # what it is
    link: str  # where something can be done about it
    roles: frozenset[Role]  # whom it waits for; viewers see all


@dataclass(frozen=True)
class Waiting:
    """A kind of what waits for a decision."""

    one: str  # a single one, in words
    what: str  # what it waits for
    link: str  # where it is decided
    roles: frozenset[Role]  # who decides


DECISIONS: Mapping[str, Waiting] = {
    "readings": Waiting("quarantined reading", "a decision", "/console/quarantine", _OFFICE),
    "corrections": Waiting("estimated quarter-hour", "approval", "/console/quarantine/corrections", _OFFICE),
    "findings": Waiting("open finding", "a look", "/console/quarantine/findings", _OFFICE),
    "accounts": Waiting("differing account", "correction", "/console/quarantine/accounts", _OFFICE),
    "drafts": Waiting("draft run", "a check", "/console/runs", _OFFICE),
    "checked": Waiting("checked run", "a second person", "/console/runs", _SECOND),
    "entries": Waiting("entry", "a second person", "/console/entries", _SECOND),
    "tariffs": Waiting("proposed tariff", "approval", "/console/rates", _SECOND),
    "requests": Waiting("data request", "an answer", "/console/research", frozenset({Role.CLERK})),
    "releases": Waiting("release", "a second person", "/console/research", frozenset({Role.APPROVER})),
    "spared": Waiting("place that must not be cut", "a second person", "/console/spared", _SECOND),
}
"""What waits for a decision, by its count's name (``utility.overview.store.waiting``)."""


def items(
    board: Sequence[Row],
    facts: Sequence[Facts],
    waiting: Mapping[str, int],
    now: EpochSeconds,
    lasting: Mapping[MicrogridId, HoursLeft],
) -> tuple[Item, ...]:
    """Return what needs a person, the gravest first.

    Args:
        board: The alarms.
        facts: What was last received of each microgrid.
        waiting: How much waits for a decision, by kind.
        now: The time.
        lasting: How long microgrids last.
    """
    active = [row.alarm for row in board if row.state is State.ACTIVE and row.alarm.name not in _COUNTED_HERE]
    alarmed = {row.alarm.place for row in board}
    held = {row.alarm.place for row in board if row.alarm.name in _OF_LATE}
    left = [each for each in facts if each.microgrid not in held]
    late = [each for each in left if _is_late(each, now)]
    soon = (each for each in left if each not in late and each.microgrid not in alarmed)
    found = [*_alarms(active), *_islands(facts, now, lasting), *_late(late), *_in_alarm(soon, now)]
    for name, kind in DECISIONS.items():
        if count := waiting.get(name, 0):
            words = f"{counted(count, kind.one)} {'waits' if count == 1 else 'wait'} for {kind.what}"
            found.append(Item(mark="idle", words=words, link=kind.link, roles=kind.roles))
    return tuple(sorted(found, key=lambda item: ("bad", "warning", "idle").index(item.mark)))


def of_roles(found: Iterable[Item], roles: Iterable[Role]) -> list[Item]:
    """Return the items for a person with some roles."""
    mine = set(roles)
    return [item for item in found if item.roles & mine]


def _alarms(active: Iterable[Alarm]) -> Iterator[Item]:
    """Yield an item for each name of an alarm."""
    by_name: dict[str, list[Alarm]] = {}
    for alarm in active:
        by_name.setdefault(alarm.name, []).append(alarm)
    for name, some in by_name.items():
        first = some[0]
        link = "/console/alarms" if len(some) > 1 else f"/console/alarms/one?{urlencode({'key': first.key})}"
        words = first.summary.rstrip(".") if len(some) == 1 else f"{title(name)}: {places(each.place for each in some)}"
        mark = "bad" if any(each.severity is Severity.CRITICAL for each in some) else "warning"
        yield Item(mark=mark, words=words, link=link, roles=_WATCH)


def _islands(facts: Iterable[Facts], now: EpochSeconds, lasting: Mapping[MicrogridId, HoursLeft]) -> Iterator[Item]:
    """Yield an item for the islands, with what is left and what helps."""
    found = [(each, why) for each in facts if (why := island_words(each, now)) is not None]
    if not found:
        return
    known = [left.first for each, _ in found if (left := lasting.get(each.microgrid)) is not None]
    first = min(known, key=lambda band: inf if band.middle is None else band.middle, default=None)
    names, link = [each.microgrid for each, _ in found], "/console/microgrids"
    words = f"{names[0]} is an island: {found[0][1]}" if len(found) == 1 else f"Islands: {places(names)}"
    yield Item(
        mark="bad" if is_nearly_dark(first) else "warning",
        words=f"{words}. {dark_words(first)}; a request to reduce makes it longer",
        link=f"{link}/{names[0]}" if len(found) == 1 else link,
        roles=_WATCH,
    )


def _is_late(facts: Facts, now: EpochSeconds) -> bool:
    """Return whether a microgrid has been late for long."""
    if facts.is_closed or facts.seen is None:
        return False
    return now - facts.seen > LATE_S or (facts.heartbeat is not None and facts.heartbeat.backlog_age_s > LATE_S)


def _late(late: Sequence[Facts]) -> Iterator[Item]:
    """Yield an item for the microgrids that are late by long and have no alarm yet."""
    if late:
        words = f"Late by more than an hour: {places(each.microgrid for each in late)}"
        yield Item(mark="warning", words=words, link="/console/microgrids", roles=_WATCH)


def _in_alarm(facts: Iterable[Facts], now: EpochSeconds) -> Iterator[Item]:
    """Yield an item for the microgrids that the map shows in alarm; the alarm itself follows minutes later."""
    found = [one for each in facts if (one := cell(each, now)).condition is Condition.ALARM]
    if found:
        words = found[0].words if len(found) == 1 else f"In alarm: {places(each.microgrid for each in found)}"
        yield Item(mark="bad", words=words, link="/console/microgrids", roles=_WATCH)
