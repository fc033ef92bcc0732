"""What happens on the demonstration's stage: a day's scenes, and words for what the town does about them (pure).

The shell gives it what the gateways report, once a second; it returns commands to give and lines to print.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from pathlib import Path
from zoneinfo import ZoneInfo

from commonwatt.model.units import EpochSeconds, MicrogridId

SHARING_SAID_S = 3600  # town seconds between two lines about sharing in a microgrid: it comes and goes
_OPEN = ("islanded", "resynchronising")  # phases with an open switch; a look may come too late for the first
ALL = "plant"  # the folder with the settings file of all meters and the plant


def _page_of(folder: str) -> str:
    """Return the console's page of a folder's microgrid, or of the town."""
    return "/console/town" if folder == ALL else f"/console/microgrids/{folder}"


@dataclass(frozen=True, kw_only=True)
class Say:
    """A line to print."""

    what: str  # what happens
    does: str  # what the system does about it
    page: str  # the page of the console that shows it


@dataclass(frozen=True, kw_only=True)
class Play:
    """A command that changes the town."""

    words: str  # the command without ``commonwatt`` and its settings file, which is named after its first word
    folder: str  # the folder of the data that has the settings file


Scene = tuple[Say, Play]  # something that happens to the town: what is printed, and the command that makes it happen


def _programme() -> Sequence[tuple[str, Scene]]:
    text = Path(__file__).with_name("programme.toml").read_text(encoding="utf-8")
    scenes = []
    for one in tomllib.loads(text)["scene"]:
        for folder, times in one["at"].items():
            say = Say(what=one["what"].replace("GRID", folder), does=one["does"], page=_page_of(folder))
            scenes += [(at, (say, Play(words=one["command"], folder=folder))) for at in times]
    return sorted(scenes, key=itemgetter(0))


PROGRAMME = _programme()
"""The scenes of the built-in town by local time, every day."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a gateway reports of its microgrid."""

    phase: str | None = None  # the phase of its connection to the town; ``None``: not known
    manages: bool = True  # whether it manages its own microgrid, and no other controller does
    donors: Sequence[str] = ()  # the names of the batteries that share
    receivers: Sequence[str] = ()  # the names of the batteries that need help


class TourStage:
    """Decides what happens, and what is said."""

    def __init__(self, zone: ZoneInfo, programme: Sequence[tuple[str, Scene]], until: EpochSeconds | None) -> None:
        """Take the town's zone, the scenes of each day, and when the last one may begin (``None``: no end)."""
        self._zone = zone
        self._programme = programme
        self._until = until
        self._before: EpochSeconds | None = None
        self._seen: dict[MicrogridId, Seen] = {}
        self._said_sharing: dict[MicrogridId, EpochSeconds] = {}

    def handle(self, seen: Mapping[MicrogridId, Seen], now: EpochSeconds) -> list[Say | Play]:
        """Take what the gateways report; return what to do and to say."""
        effects = self._scenes(now)
        for name, one in seen.items():
            effects += _islanding(name, self._seen.get(name, Seen()), one)
            self._seen[name] = one
            if one.donors and one.receivers and now >= self._said_sharing.get(name, 0) + SHARING_SAID_S:
                self._said_sharing[name] = now
                effects.append(_sharing(name, one))
        return effects

    def _scenes(self, now: EpochSeconds) -> list[Say | Play]:
        """Return the scenes that began since the last look."""
        last, self._before = self._before, now
        if last is None or (self._until is not None and now > self._until):
            return []
        midnight = datetime.fromtimestamp(last, self._zone).replace(hour=0, minute=0, second=0, microsecond=0)
        due: list[Say | Play] = []
        for day in (midnight, midnight + timedelta(days=1)):
            for at, scene in self._programme:
                hour, minute = map(int, at.split(":"))
                if last < day.replace(hour=hour, minute=minute).timestamp() <= now:
                    due += scene
        return due


def _islanding(name: MicrogridId, was: Seen, now: Seen) -> list[Say | Play]:
    """Return the words for a changed connection of a microgrid to the town."""
    if now.phase in _OPEN and was.phase not in _OPEN:
        does = "Its switch is open, and its homes live on their own sun and batteries."
        return [Say(what=f"{name} is an island.", does=does, page=_page_of(name))]
    if now.phase == "connected" and was.phase not in (None, "connected"):
        does = "The voltage was stable for five minutes, and for the delay of its turn."
        return [Say(what=f"{name} is back on the town's net.", does=does, page=_page_of(name))]
    return []


def _sharing(name: MicrogridId, seen: Seen) -> Say:
    """Return the words for a microgrid in which batteries share."""
    giving = seen.donors[0] if len(seen.donors) == 1 else f"{len(seen.donors)} batteries"
    return Say(
        what=f"{name} shares: {few(seen.receivers)} below the owner's minimum.",
        does=f"With more than their minima, {giving} give to {few(seen.receivers)}.",
        page=_page_of(name),
    )


def few(names: Sequence[str]) -> str:
    """Return a list of names, of many only the first three and how many more."""
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
