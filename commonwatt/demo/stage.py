"""What happens on the demonstration's stage: a day's scenes, and words for what the town does about them (pure).

The shell gives it what the gateways report, once a second; it returns commands to give and lines to print.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from commonwatt.model.units import EpochSeconds, MicrogridId

TOWN_PAGE = "/console/town"
SHARING_SAID_S = 3600  # town seconds between two lines about sharing in a microgrid: it comes and goes
ALL = "plant"  # the folder with the settings file of all meters and the plant


def page_of(microgrid: MicrogridId) -> str:
    """Return the console's page of a microgrid."""
    return f"/console/microgrids/{microgrid}"


@dataclass(frozen=True, kw_only=True)
class Say:
    """A line to print."""

    what: str  # what happens
    does: str  # what the system does about it
    page: str  # the page of the console that shows it


@dataclass(frozen=True, kw_only=True)
class Play:
    """A command of ``commonwatt meters`` that changes the emulated world."""

    words: str  # the command without its settings file
    folder: str  # the folder of the data that has the settings file


Scene = tuple[Say, Play]  # something that happens to the town: what is printed, and the command that makes it happen


def _clouds(what: str, hours: int) -> Scene:
    does = "Homes use their batteries. A battery below its owner's minimum is helped by its neighbours'."
    say = Say(what=f"{what}: a tenth of the sun for {hours} hours.", does=does, page=TOWN_PAGE)
    return say, Play(words=f"weather 10 --for {hours * 3600}", folder=ALL)


def _guests(name: MicrogridId) -> Scene:
    say = Say(
        what=f"Guests in {name}: its homes use three times as much for two and a half hours.",
        does="Their batteries fall. The gateway lets batteries with enough energy share with those that need help.",
        page=page_of(name),
    )
    return say, Play(words="demand 300 --for 9000", folder=name)


def _feeder(name: MicrogridId) -> Scene:
    say = Say(
        what=f"The feeder of {name} is cut for an hour.",
        does="It opens its boundary switch and goes on as an island. When the voltage is back and stable, it returns.",
        page=page_of(name),
    )
    return say, Play(words="feeder dead --for 3600", folder=name)


def _low() -> Scene:
    say = Say(
        what="The regional supply is LOW for an hour and a half.",
        does="The plant may take half as much from the regional grid, and all places reduce their use by a fifth.",
        page=TOWN_PAGE,
    )
    return say, Play(words="supply LOW --for 5400", folder=ALL)


PROGRAMME: Sequence[tuple[str, Scene]] = (
    ("01:00", _feeder("r002")),
    ("02:40", _guests("r002")),
    ("04:20", _low()),
    ("06:00", _feeder("r001")),
    ("07:40", _clouds("A grey morning", 2)),
    ("09:10", _guests("r001")),
    ("10:40", _clouds("Clouds come up", 3)),
    ("11:40", _guests("r001")),
    ("13:30", _feeder("r002")),
    ("15:10", _low()),
    ("16:50", _clouds("A cloudy evening", 4)),
    ("18:10", _guests("r002")),
    ("19:50", _feeder("r001")),
    ("21:40", _low()),
    ("23:20", _guests("r001")),
)
"""The scenes of the built-in town by local time, every day: at 60 times real speed, one each minute or two."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a gateway reports of its microgrid."""

    phase: str | None = None  # the phase of its connection to the town; ``None``: not known
    donors: Sequence[str] = ()  # the names of the batteries that share
    receivers: Sequence[str] = ()  # the names of the batteries that need help


class Stage:
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
    if now.phase == "islanded" and was.phase != "islanded":
        does = "Its switch is open, and its homes live on their own sun and batteries."
        return [Say(what=f"{name} is an island.", does=does, page=page_of(name))]
    if now.phase == "connected" and was.phase not in (None, "connected"):
        does = "The voltage was stable for five minutes, and for the delay of its turn."
        return [Say(what=f"{name} is back on the town's net.", does=does, page=page_of(name))]
    return []


def _sharing(name: MicrogridId, seen: Seen) -> Say:
    """Return the words for a microgrid in which batteries share."""
    giving = seen.donors[0] if len(seen.donors) == 1 else f"{len(seen.donors)} batteries"
    return Say(
        what=f"{name} shares: {few(seen.receivers)} below the owner's minimum.",
        does=f"With more than their minima, {giving} give to {few(seen.receivers)}.",
        page=page_of(name),
    )


def few(names: Sequence[str]) -> str:
    """Return a list of names, of many only the first three and how many more."""
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
