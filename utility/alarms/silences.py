"""Silences: which alarms they hold, from when to when. Each has an end; a maintenance is a silence of a place."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from utility.alarms.alarm import HEAD_END, OWN_RULES, PARTS, PREFIX, TOWN, Alarm

LONGEST_S = 31 * 86_400  # the longest silence or acknowledgement, clock seconds: nobody remembers a longer one
FURTHEST_S = 366 * 86_400  # how far ahead a maintenance may be planned, clock seconds
MAX_NOTE = 200  # most characters of a note
MAX_TEXT = 400  # most characters of another program's text that are kept
# Labels that may change while an alarm stands.
_PASSING = frozenset({"severity", "instance", "job", "commonwatt_utility"})
# Most characters of another program's pattern that is followed; a longer one holds none of the utility's alarms.
MAX_PATTERN = 200

Text = Annotated[str, BeforeValidator(lambda text: text[:MAX_TEXT] if isinstance(text, str) else text)]

_SIGNS = {(False, True): "=", (False, False): "!=", (True, True): "=~", (True, False): "!~"}


@dataclass(frozen=True, kw_only=True)
class Matcher:
    """A condition on one label, as Alertmanager has it; a label that is not there is empty."""

    name: Text  # the label
    value: Text  # its value, or a pattern for the whole of it
    is_regex: Annotated[bool, Field(alias="isRegex")] = False  # whether ``value`` is a pattern
    is_equal: Annotated[bool, Field(alias="isEqual")] = True  # whether the label must match; else it must not

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Return whether labels meet the condition."""
        value = labels.get(self.name, "")
        if not self.is_regex:
            return (value == self.value) is self.is_equal
        pattern = _pattern(self.value)
        return pattern is not None and bool(pattern.fullmatch(value)) is self.is_equal

    def __str__(self) -> str:
        return f'{self.name}{_SIGNS[self.is_regex, self.is_equal]}"{self.value}"'


Way: TypeAlias = tuple[Matcher, ...]  # matchers that all must hold


def way_of(alarm: Alarm) -> Way:
    """Return the matchers of one alarm alone."""
    return tuple(
        Matcher(name=name, value=value) for name, value in sorted(alarm.labels.items()) if name not in _PASSING
    )


def ways_of(place: str, part: str) -> tuple[Way, ...]:
    """Return the matchers of a maintenance; it holds an alarm if all of one list match.

    What the utility reports of a microgrid has the label ``controller``, what is scraped there ``place``: one of
    Alertmanager's silences can't match either of them. Sums over parts have no such label. The counts of the
    utility's own alarms are left alone: alarms that are held here are not counted.

    Args:
        place: Microgrids, ``head-end`` or ``utility``, with commas or spaces between them; empty: the whole town.
        part: The part there; empty: all.
    """
    ours = Matcher(name="alertname", value=f"{PREFIX}.+", is_regex=True)
    places = places_of(place)
    if not places and not part:
        return ((ours,),)
    here = _one_of("place", [*places, *([""] if TOWN in places else [])])
    of_part = Matcher(name="part", value=f"{part}|", is_regex=True)
    no_counts = Matcher(name="alertname", value="|".join(OWN_RULES), is_regex=True, is_equal=False)
    scraped = (
        ours,
        no_counts,
        *([here] if places else []),
        *([of_part] if part else []),
        Matcher(name="controller", value=""),
    )
    named = [each for each in places if each != TOWN]
    if (places and not named) or part not in ("", "gateway"):
        return (scraped,)
    told = _one_of("controller", named) if named else Matcher(name="controller", value=".+", is_regex=True)
    return ((ours, told), scraped)


def equal_to(alarm: Alarm) -> tuple[Way, ...]:
    """Return the matchers of all alarms of a name, wherever they stand or begin: the rules', and those of parts."""
    name = alarm.name.removeprefix(PREFIX)
    no_counts = Matcher(name="alertname", value="|".join(OWN_RULES), is_regex=True, is_equal=False)
    return (Matcher(name="alertname", value=alarm.name),), (no_counts, Matcher(name="alarm", value=name))


def places_of(text: str) -> list[str]:
    """Return the places that a person names."""
    return text.replace(",", " ").split()


def _one_of(label: str, values: list[str]) -> Matcher:
    return Matcher(name=label, value="|".join(values), is_regex=len(values) > 1)


@dataclass(frozen=True, kw_only=True)
class Silence:
    """A silence, from ``start`` to before ``end``, clock seconds."""

    id: str  # its number in the database; for a silence that was made elsewhere, Alertmanager's id
    ways: tuple[Way, ...]  # it holds an alarm if all matchers of one list match
    start: EpochSeconds  # its start
    end: EpochSeconds  # its end; a silence that was ended early has the time of that
    person: str  # the person who made it
    note: str  # why
    foreign: tuple[str, ...] = ()  # its ids at Alertmanager; empty: it is in the utility's database alone
    is_ours: bool = True  # whether it was made here
    subject: str = ""  # what it holds, in words

    def stands(self, now: EpochSeconds) -> bool:
        """Return whether it holds alarms now."""
        return self.start <= now < self.end

    def names_ours(self) -> bool:
        """Return whether it names alarms of Commonwatt: an Alertmanager may serve other programs too."""
        return any(
            matcher.name == "alarm" or (matcher.name == "alertname" and PREFIX in matcher.value)
            for way in self.ways
            for matcher in way
        )

    def holds(self, alarm: Alarm) -> bool:
        """Return whether it is about an alarm, whatever the time."""
        if set(self.foreign) & set(alarm.silenced_by):
            return True
        return any(all(matcher.holds(alarm.labels) for matcher in way) for way in self.ways if way)


def subject_of(place: str, part: str) -> str:
    """Return a maintenance in words."""
    return f"{f'the {part} of ' if part else ''}{', '.join(places_of(place)) or 'the whole town'}"


def check_window(start: EpochSeconds, end: EpochSeconds, now: EpochSeconds) -> None:
    """Check when a silence or an acknowledgement holds.

    Raises:
        ConfigError: It is over, too long or too far ahead.
    """
    if not start < end:
        raise ConfigError("end: comes after the start")
    if end <= now:
        raise ConfigError("end: is over already")
    if end - start > LONGEST_S:
        raise ConfigError(f"end: is more than {LONGEST_S // 86_400} days after the start")
    if start > now + FURTHEST_S:
        raise ConfigError("start: is more than a year ahead")


def check_place(place: str, part: str, is_microgrid: Callable[[str], bool]) -> None:
    """Check what a maintenance is of.

    Raises:
        ConfigError: A place or the part is not there, or there are too many places for one silence.
    """
    if len(place) > MAX_PATTERN:
        raise ConfigError(f"place: names at most {MAX_PATTERN} characters; plan a second maintenance for the others")
    for each in places_of(place):
        if each not in (TOWN, HEAD_END) and not is_microgrid(each):
            raise ConfigError(f"place: {each} is no microgrid, nor {HEAD_END} or {TOWN}")
    if part and part not in PARTS:
        raise ConfigError(f"part: {part} is none of {', '.join(PARTS)}")


def check_note(note: str) -> None:
    """Check a note.

    Raises:
        ConfigError: It is empty, too long, or has characters that can't be shown.
    """
    if not note.strip():
        raise ConfigError("note: say why, for those who read it later")
    if len(note) > MAX_NOTE or not note.isprintable():
        raise ConfigError(f"note: is one line of at most {MAX_NOTE} characters")


def joined(ours: Iterable[Silence], foreign: Iterable[Silence], *, answered: bool) -> list[Silence]:
    """Return the silences made here and elsewhere, each once; those that end first come first.

    A silence made here ends when Alertmanager's ended: a person may have ended it there, or its data were lost.

    Args:
        foreign: Alertmanager's that are not over.
        answered: Whether ``foreign`` is what Alertmanager has.
    """
    listed = {one.id: one for one in foreign}
    mine: set[str] = set()
    found = []
    for one in ours:
        mine.update(one.foreign)
        ends = [listed[each].end for each in one.foreign if each in listed]
        if ends or not one.foreign or not answered:
            found.append(replace(one, end=min(one.end, max(ends, default=one.end))))
    found += [one for one in listed.values() if one.id not in mine]
    return sorted(found, key=lambda one: (one.end, one.id))


@lru_cache(256)
def _pattern(text: str) -> "re.Pattern[str] | None":
    try:
        return re.compile(text, re.DOTALL) if len(text) <= MAX_PATTERN else None
    except re.error:
        return None
