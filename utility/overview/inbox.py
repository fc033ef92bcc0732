"""What needs a person, as one short list; and a quarantined reading as a person judges it (pure)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from urllib.parse import urlencode

from commonwatt.energy.lasting import HoursLeft
from commonwatt.model.records import RecordType
from commonwatt.model.text import counted
from commonwatt.model.units import QUARTER_S, SLOT_S, AccountNumber, EpochSeconds, MicrogridId, MilliwattHours
from commonwatt.protocol.dead_letters import KeptDeadLetter, quarantined_blocks
from utility.access.people import Role
from utility.alarms.alarm import PREFIX, Alarm, Severity, places, title
from utility.alarms.board import AlarmRow, AlarmState
from utility.alarms.conditions import dark_words, is_nearly_dark
from utility.overview.microgrids import MicrogridCondition, MicrogridFacts, cell, island_words

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
"""What waits for a decision, by its count's name (``utility.overview.store.town``)."""


def items(
    board: Sequence[AlarmRow],
    facts: Sequence[MicrogridFacts],
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
    active = [row.alarm for row in board if row.state is AlarmState.ACTIVE and row.alarm.name not in _COUNTED_HERE]
    alarmed = {row.alarm.place for row in board}
    held = {row.alarm.place for row in board if row.alarm.name in _OF_LATE}
    left = [m for m in facts if m.microgrid not in held]
    late = [m for m in left if _is_late(m, now)]
    soon = (m for m in left if m not in late and m.microgrid not in alarmed)
    needed = [*_alarms(active), *_islands(facts, now, lasting), *_late(late), *_in_alarm(soon, now)]
    for name, kind in DECISIONS.items():
        if count := waiting.get(name, 0):
            words = f"{counted(count, kind.one)} {'waits' if count == 1 else 'wait'} for {kind.what}"
            needed.append(Item(mark="idle", words=words, link=kind.link, roles=kind.roles))
    return tuple(sorted(needed, key=lambda item: ("bad", "warning", "idle").index(item.mark)))


def of_roles(every: Iterable[Item], roles: Iterable[Role]) -> list[Item]:
    """Return the items for a person with some roles."""
    mine = set(roles)
    return [item for item in every if item.roles & mine]


def _alarms(active: Iterable[Alarm]) -> Iterator[Item]:
    """Yield an item for each name of an alarm."""
    by_name: dict[str, list[Alarm]] = {}
    for alarm in active:
        by_name.setdefault(alarm.name, []).append(alarm)
    for name, some in by_name.items():
        first = some[0]
        link = "/console/alarms" if len(some) > 1 else f"/console/alarms/one?{urlencode({'key': first.key})}"
        words = first.summary.rstrip(".") if len(some) == 1 else f"{title(name)}: {places(a.place for a in some)}"
        mark = "bad" if any(a.severity is Severity.CRITICAL for a in some) else "warning"
        yield Item(mark=mark, words=words, link=link, roles=_WATCH)


def _islands(
    facts: Iterable[MicrogridFacts], now: EpochSeconds, lasting: Mapping[MicrogridId, HoursLeft]
) -> Iterator[Item]:
    """Yield an item for the islands, with what is left and what helps."""
    islands = [(m, why) for m in facts if (why := island_words(m, now)) is not None]
    if not islands:
        return
    known = [left.first for m, _ in islands if (left := lasting.get(m.microgrid)) is not None]
    first = min(known, key=lambda band: inf if band.middle is None else band.middle, default=None)
    names, link = [m.microgrid for m, _ in islands], "/console/microgrids"
    words = f"{names[0]} is an island: {islands[0][1]}" if len(islands) == 1 else f"Islands: {places(names)}"
    yield Item(
        mark="bad" if is_nearly_dark(first) else "warning",
        words=f"{words}. {dark_words(first)}; a request to reduce makes it longer",
        link=f"{link}/{names[0]}" if len(islands) == 1 else link,
        roles=_WATCH,
    )


def _is_late(facts: MicrogridFacts, now: EpochSeconds) -> bool:
    """Return whether a microgrid has been late for long."""
    if facts.is_closed or facts.seen is None:
        return False
    return now - facts.seen > LATE_S or (facts.heartbeat is not None and facts.heartbeat.backlog_age_s > LATE_S)


def _late(late: Sequence[MicrogridFacts]) -> Iterator[Item]:
    """Yield an item for the microgrids that are late by long and have no alarm yet."""
    if late:
        words = f"Late by more than an hour: {places(m.microgrid for m in late)}"
        yield Item(mark="warning", words=words, link="/console/microgrids", roles=_WATCH)


def _in_alarm(facts: Iterable[MicrogridFacts], now: EpochSeconds) -> Iterator[Item]:
    """Yield an item for the microgrids that the map shows in alarm; the alarm itself follows minutes later."""
    cells = [shown for m in facts if (shown := cell(m, now)).condition is MicrogridCondition.ALARM]
    if cells:
        words = cells[0].words if len(cells) == 1 else f"In alarm: {places(c.microgrid for c in cells)}"
        yield Item(mark="bad", words=words, link="/console/microgrids", roles=_WATCH)


_KILOWATTS = 3600 / SLOT_S / 1e6
_WHAT = {
    RecordType.GENERATION: "sun that was generated",
    RecordType.STORED: "level of the battery",
    RecordType.THROUGH: "energy through the meter",
    RecordType.REGISTER: "reading of the register",
}


@dataclass(frozen=True, kw_only=True)
class JudgedLetter:
    """What a dead letter with quarantined readings says."""

    kind: RecordType  # what was measured
    start: EpochSeconds  # start of the first reading
    end: EpochSeconds  # end of the last
    slots: int  # how many readings of 15 s there are
    most: MilliwattHours  # the greatest of them
    limit: MilliwattHours | None  # the greatest that is plausible by the registry; ``None``: there is no limit
    energy: MilliwattHours | None  # their sum; ``None``: levels, which have none

    @property
    def what(self) -> str:
        """What was measured, in words."""
        return _WHAT[self.kind]

    @property
    def size(self) -> str:
        """How much it is, in words, beside what is plausible."""
        words = f"{'' if self.slots == 1 else 'at most '}{_amount(self.kind, self.most)}"
        return words if self.limit is None else f"{words}; plausible is at most {_amount(self.kind, self.limit)}"


def judged(kept: KeptDeadLetter, limits: Mapping[int, MilliwattHours]) -> JudgedLetter | None:
    """Return what a dead letter's readings say; ``None``: it has none.

    Args:
        limits: The greatest plausible reading, by record type.
    """
    blocks = quarantined_blocks(kept.dead_letter, RecordType)
    if blocks is None:
        return None
    there, kind = blocks.quality > 0, RecordType(int(blocks.record_type[0]))
    rows, slots = there.nonzero()
    starts = blocks.quarter.astype(int)[rows] * QUARTER_S + slots * SLOT_S
    return JudgedLetter(
        kind=kind,
        start=int(starts.min()),
        end=int(starts.max()) + SLOT_S,
        slots=int(there.sum()),
        most=int(blocks.values[there].max()),
        limit=limits.get(kind),
        energy=int(blocks.values[there].sum()) if kind.is_flow else None,
    )


def consequences(
    letter: JudgedLetter, account: AccountNumber | None, month: str, *, is_issued: bool
) -> tuple[str, str]:
    """Return what a release and a refusal do to a bill, in words.

    Args:
        account: The account that had the meter; ``None``: none, so that no bill is concerned.
        month: The local month of the readings.
        is_issued: Whether that month's bills are issued.
    """
    lost = f"The {counted(letter.slots, 'reading')} of 15 s stay missing; what is missing is estimated as in any gap."
    if account is None:
        return "They count in the town's sums; no account had the meter.", lost
    if letter.energy is None:
        return f"It counts where the battery of account {account} is settled.", lost
    bill = f"the bill of account {account} for {month}"
    when = f"{bill} is issued: the difference comes with its correction" if is_issued else f"{bill} is not issued yet"
    return f"{letter.energy / 1e6:,.3f} kWh are settled for account {account}; {when}.", lost


def _amount(kind: RecordType, value: MilliwattHours) -> str:
    return f"{value * _KILOWATTS:,.1f} kW" if kind.is_flow else f"{value / 1e6:,.1f} kWh"
