"""An alarm: its name, its labels and its key."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from commonwatt.model.units import EpochSeconds

PREFIX = "Commonwatt"  # the names of all alarms begin with it
TOWN = "utility"  # the place of alarms that concern no microgrid
HEAD_END = "head-end"  # the place of the head-end broker's alarms
_NAMED = 3  # places that a sentence names
PARTS = ("broker", "gateway", "meters", "utility")  # the parts that alarms are of
# Labels that do not tell two alarms of a place apart, or stand at the front of the key.
_LEFT_OUT = frozenset({"alarm", "alertname", "controller", "part", "place", "severity"})


class Severity(StrEnum):
    """How soon a person must act; in the order of a list."""

    CRITICAL = "critical"  # now
    WARNING = "warning"  # today


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A condition that needs a person."""

    # Its labels, as Prometheus has them: ``alertname``, ``severity``, ``part``, ``place``, and more.
    labels: Mapping[str, str]
    summary: str  # what is wrong, a sentence
    description: str = ""  # what it means, in figures
    since: EpochSeconds = 0  # since when it stands, clock seconds
    # What tells it from other alarms; it stays the same while the figures in its texts change.
    key: str = field(init=False)

    def __post_init__(self) -> None:
        extra = (f"{label}={value}" for label, value in sorted(self.labels.items()) if label not in _LEFT_OUT)
        object.__setattr__(self, "key", "|".join((self.name, self.place, self.part, *extra)))

    @property
    def name(self) -> str:
        """The alarm's name, which is its section in the runbooks."""
        return self.labels["alertname"]

    @property
    def severity(self) -> Severity:
        """How soon a person must act; an unknown word counts as critical."""
        return Severity.WARNING if self.labels.get("severity") == Severity.WARNING else Severity.CRITICAL

    @property
    def place(self) -> str:
        """The microgrid, the head-end or the utility that it is about."""
        return self.labels.get("controller") or self.labels.get("place") or TOWN

    @property
    def part(self) -> str:
        """The part that it is about; what the utility reports of a controller is about its gateway."""
        return "gateway" if self.labels.get("controller") else self.labels.get("part", TOWN)


def order(alarm: Alarm) -> tuple[int, EpochSeconds, str]:
    """Return the place of an alarm in a list: critical ones first, then the newest."""
    return list(Severity).index(alarm.severity), -alarm.since, alarm.key


def title(name: str) -> str:
    """Return an alarm's name in words."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.removeprefix(PREFIX)).lower()
    return words.capitalize()


def places(places: Iterable[str]) -> str:
    """Return the first places by name and the number of the others."""
    every = sorted(set(places))
    more = len(every) - _NAMED
    return ", ".join(every[:_NAMED]) + (f" and {more} more" if more > 0 else "")
