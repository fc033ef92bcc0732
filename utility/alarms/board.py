"""The list of alarms as people see it: each once, with its acknowledgement and silences (pure)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated
from zlib import crc32

from pydantic import Field

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from utility.alarms.alarm import HEAD_END, PARTS, TOWN, Alarm, Severity, order
from utility.webkit.columns import Time

LONGEST_S = 31 * 86_400  # the longest silence or acknowledgement, clock seconds: nobody remembers a longer one
FURTHEST_S = 366 * 86_400  # how far ahead a maintenance may be planned, clock seconds
MAX_NOTE = 200  # most characters of a note


def places_of(text: str) -> list[str]:
    """Return the places that a person names."""
    return text.replace(",", " ").split()


@dataclass(frozen=True, kw_only=True)
class Silence:
    """A silence, from ``start`` to before ``end``, clock seconds: of an alarm, of a name, or of places and a part."""

    no: int = 0  # its number in the database
    alarm: str = ""  # the key of the one alarm that it holds; empty: it holds more
    name: str = ""  # the name of the alarms that it holds, wherever they stand or begin; empty: others too
    places: str = ""  # microgrids, ``head-end`` or ``utility``, with commas or spaces between them; empty: all
    part: str = ""  # the part there; empty: all
    start: EpochSeconds  # its start
    until: EpochSeconds  # its end; a silence that was ended early has the time of that
    person: str  # the person who made it
    note: str  # why
    subject: str = ""  # what it holds, in words

    def stands(self, now: EpochSeconds) -> bool:
        """Return whether it holds alarms now."""
        return self.start <= now < self.until

    def holds(self, alarm: Alarm) -> bool:
        """Return whether it is about an alarm, whatever the time."""
        if self.alarm or self.name:
            return alarm.key == self.alarm or alarm.name == self.name
        places = places_of(self.places)
        return (not places or alarm.place in places) and self.part in ("", alarm.part)


def subject_of(place: str, part: str) -> str:
    """Return a maintenance in words."""
    return f"{f'the {part} of ' if part else ''}{', '.join(places_of(place)) or 'the whole town'}"


def check_window(start: EpochSeconds, end: EpochSeconds, now: EpochSeconds) -> None:
    """Check when a silence or an acknowledgement holds."""
    if not start < end:
        raise ConfigError("until: comes after the start")
    if end <= now:
        raise ConfigError("until: is over already")
    if end - start > LONGEST_S:
        raise ConfigError(f"until: is more than {LONGEST_S // 86_400} days after the start")
    if start > now + FURTHEST_S:
        raise ConfigError("start: is more than a year ahead")


def check_place(place: str, part: str, is_microgrid: Callable[[str], bool]) -> None:
    """Check what a maintenance is of."""
    for each in places_of(place):
        if each not in (TOWN, HEAD_END) and not is_microgrid(each):
            raise ConfigError(f"place: {each} is no microgrid, nor {HEAD_END} or {TOWN}")
    if part and part not in PARTS:
        raise ConfigError(f"part: {part} is none of {', '.join(PARTS)}")


def check_note(note: str) -> None:
    """Check a note."""
    if not note.strip():
        raise ConfigError("note: say why, for those who read it later")
    if len(note) > MAX_NOTE or not note.isprintable():
        raise ConfigError(f"note: is one line of at most {MAX_NOTE} characters")


class AlarmState(StrEnum):
    """What an alarm waits for; in the order of the list."""

    ACTIVE = "active"  # a person
    ACKNOWLEDGED = "acknowledged"  # the person who acknowledged it
    SUPPRESSED = "suppressed"  # the end of a silence


@dataclass(frozen=True, kw_only=True)
class Acknowledgement:
    """A person's word that they see to an alarm, from ``made`` to before ``until``, clock seconds."""

    no: int  # its number
    key: Annotated[str, Field(exclude=True)]  # the alarm's key
    person: str  # the person
    note: str  # what they do
    made: Time  # when they said so
    until: Time  # when the alarm is active again, unless it is over

    def holds(self, alarm: Alarm, now: EpochSeconds) -> bool:
        """Return whether it is of this alarm: one that came again since is another one, and active."""
        return alarm.key == self.key and alarm.since <= self.made and self.made <= now < self.until


@dataclass(frozen=True, kw_only=True)
class AlarmRow:
    """An alarm on the board."""

    alarm: Alarm  # the alarm
    state: AlarmState  # what it waits for
    acknowledgement: Acknowledgement | None  # the newest that holds; ``None``: nobody acknowledged it
    silences: tuple[Silence, ...]  # the silences that hold it now


def rows(
    alarms: Iterable[Alarm], acknowledgements: Sequence[Acknowledgement], silences: Sequence[Silence], now: EpochSeconds
) -> list[AlarmRow]:
    """Return the alarms with what people did about them: those that wait for a person first."""
    by_key: dict[str, list[Acknowledgement]] = {}
    for one in acknowledgements:
        by_key.setdefault(one.key, []).append(one)
    standing = [silence for silence in silences if silence.stands(now)]
    found = [_row(alarm, by_key.get(alarm.key, ()), standing, now) for alarm in alarms]
    states = list(AlarmState)
    return sorted(found, key=lambda row: (states.index(row.state), order(row.alarm)))


def groups(found: Iterable[AlarmRow]) -> list[list[AlarmRow]]:
    """Return the alarms of one name, severity and state together where the first of them stands.

    Those that somebody acknowledged stand alone, with that person's words.
    """
    by: dict[object, list[AlarmRow]] = {}
    for row in found:
        alarm = row.alarm
        alone = alarm.key if row.state is AlarmState.ACKNOWLEDGED else row.silences
        by.setdefault((alarm.name, alarm.severity, row.state, alone), []).append(row)
    return list(by.values())


def _row(
    alarm: Alarm, acknowledgements: Iterable[Acknowledgement], standing: Iterable[Silence], now: EpochSeconds
) -> AlarmRow:
    held = [one for one in acknowledgements if one.holds(alarm, now)]
    silences = tuple(silence for silence in standing if silence.holds(alarm))
    acknowledgement = max(held, key=lambda one: one.made, default=None)
    state = AlarmState.ACTIVE
    if silences:
        state = AlarmState.SUPPRESSED
    elif acknowledgement is not None:
        state = AlarmState.ACKNOWLEDGED
    return AlarmRow(alarm=alarm, state=state, acknowledgement=acknowledgement, silences=silences)


@dataclass(frozen=True, kw_only=True)
class AlarmCounts:
    """The numbers of alarms that pages show."""

    critical: int = 0  # active critical ones
    warning: int = 0  # active warnings
    acknowledged: int = 0  # acknowledged ones
    suppressed: int = 0  # suppressed ones
    silences: int = 0  # silences that hold now


def counted(board: Sequence[AlarmRow], silences: Iterable[Silence], now: EpochSeconds) -> AlarmCounts:
    """Count a board."""
    states: Mapping[AlarmState, int] = {state: sum(row.state is state for row in board) for state in AlarmState}
    active = [row.alarm.severity for row in board if row.state is AlarmState.ACTIVE]
    return AlarmCounts(
        critical=active.count(Severity.CRITICAL),
        warning=active.count(Severity.WARNING),
        acknowledged=states[AlarmState.ACKNOWLEDGED],
        suppressed=states[AlarmState.SUPPRESSED],
        silences=sum(silence.stands(now) for silence in silences),
    )


def mark_of(board: Sequence[AlarmRow], silences: Iterable[Silence], now: EpochSeconds) -> str:
    """Return a short text that changes when an alarm, a silence or what people did changes."""
    said = [
        (row.alarm.key, row.alarm.since, row.state, row.acknowledgement and row.acknowledgement.no) for row in board
    ]
    held = [(silence.no, silence.until, silence.stands(now)) for silence in silences]
    return f"{crc32(repr((said, held)).encode()):08x}"
