"""The tour of the demonstration: eight things to try, ordered in its console, and how far each is.

The supervisor writes what its stage shows to a file; a person orders a step by a file beside it.
"""

import tomllib
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from commonwatt.demo.stage import Play, Say
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.runtime.files import read_object

STAGE = "stage.json"  # the file of the stage, in the demonstration's folder
ORDERS = "orders"  # the folder beside it with a file for each step that a person ordered
SEEN_WITHIN = 10  # times a step's duration within which its island is seen, or it was none


@dataclass(frozen=True, kw_only=True)
class TourStep:
    """Something to try."""

    id: str  # its name in orders
    title: str  # what it is
    page: str  # the page of the console that shows it
    look: str  # what to look at, and what it shows
    do: Sequence[str] = ()  # what people do by hand: pages with the role that opens them, or commands
    what: str = ""  # what happens when the supervisor does it
    words: str = ""  # its command, in a ``Play``; empty: none
    folder: str = ""  # the folder of the data with the command's settings file, or of the microgrid
    stops: Sequence[str] = ()  # the processes that it keeps dead
    for_s: int = 0  # for how long, town seconds; 0: it does nothing
    islands: bool = False  # whether its microgrid becomes an island; on a slow machine that may be seen long after


STEPS: Sequence[TourStep] = tuple(
    TourStep(**step)
    for step in tomllib.loads(Path(__file__).with_name("tour.toml").read_text(encoding="utf-8"))["step"]
)
"""The tour. DATA is the demonstration's folder, CONSOLE the address of its console."""


class Tour:
    """Decides when a step runs, and when the town is well again (pure)."""

    def __init__(self, steps: Sequence[TourStep]) -> None:
        """Take the steps that this town can show."""
        self._steps = steps
        self._states: dict[str, tuple[str, EpochSeconds]] = {step.id: ("idle", 0) for step in steps}
        self._unseen: set[str] = set()  # the steps that run whose island was not seen yet

    def handle(
        self,
        ordered: Collection[str],
        now: EpochSeconds,
        well: str,
        unsettled: Collection[MicrogridId] = (),
        *,
        plays: bool = False,
    ) -> list[Say | Play]:
        """Return what to do.

        Args:
            ordered: The steps that were ordered.
            now: The town's time.
            well: Why the town is well; empty: it is not.
            unsettled: The microgrids that are islands, or that another controller manages than their own.
            plays: Whether a command still runs: the time of its step begins with its end.
        """
        effects: list[Say | Play] = []
        for step in self._steps:
            state, since = self._states[step.id]
            if step.folder in unsettled or now >= since + SEEN_WITHIN * step.for_s:
                self._unseen.discard(step.id)
            goes_on = now < since + step.for_s or step.folder in unsettled or step.id in self._unseen
            if step.for_s and step.id in ordered and state != "running":
                self._states[step.id] = ("running", now)
                self._unseen |= {step.id} if step.islands else set()
                effects.append(Say(what=step.what, does=step.look, page=step.page))
                effects += [Play(words=f"{step.words} --for {step.for_s}", folder=step.folder)] if step.words else []
            elif state == "running" and step.words and plays:
                self._states[step.id] = (state, now)
            elif state == "running" and well and not goes_on:
                self._states[step.id] = ("well again", now)
                effects.append(Say(what=f"{step.title}: well again.", does=well, page=step.page))
        return effects

    def dead(self, now: EpochSeconds) -> set[str]:
        """Return the processes that are kept dead."""
        running = [step for step in self._steps if self._states[step.id][0] == "running"]
        return {name for step in running if now < self._states[step.id][1] + step.for_s for name in step.stops}

    def shown(self) -> list[dict[str, Any]]:
        """Return the steps, each with its ``state`` and ``since`` when it is in it (0: from the beginning)."""
        return [
            asdict(step) | dict(zip(("state", "since"), self._states[step.id], strict=True)) for step in self._steps
        ]


def stage_of(data: Path) -> dict[str, Any]:
    """Return what the supervisor of a demonstration shows: ``audit``, ``said`` and ``steps``.

    Raises:
        ConfigError: No demonstration runs in the folder.
    """
    return read_object(data / STAGE, "the stage of a demonstration that runs", "start it: commonwatt demo")


def order(data: Path, name: str) -> str:
    """Order a step from that supervisor; return what follows, in words.

    Raises:
        ConfigError: No demonstration runs in the folder, it has no such step, or the step runs.
    """
    steps = {one["id"]: one for one in stage_of(data)["steps"] if one["for_s"]}
    if name not in steps:
        raise ConfigError(f"{name:.32}: the supervisor of this town does no such step, but {', '.join(steps)}")
    if steps[name]["state"] == "running":
        raise ConfigError(f"{steps[name]['title']}: this runs already; wait until it is well again")
    (data / ORDERS / name).touch(0o600)
    return f"{steps[name]['title']}: the supervisor does it now"
