"""Silences: which alarms they hold, from when to when. Each has an end; a maintenance is a silence of a place."""

from collections.abc import Callable
from dataclasses import dataclass

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from utility.alarms.alarm import HEAD_END, PARTS, TOWN, Alarm

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
    end: EpochSeconds  # its end; a silence that was ended early has the time of that
    person: str  # the person who made it
    note: str  # why
    subject: str = ""  # what it holds, in words

    def stands(self, now: EpochSeconds) -> bool:
        """Return whether it holds alarms now."""
        return self.start <= now < self.end

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
        raise ConfigError("end: comes after the start")
    if end <= now:
        raise ConfigError("end: is over already")
    if end - start > LONGEST_S:
        raise ConfigError(f"end: is more than {LONGEST_S // 86_400} days after the start")
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
