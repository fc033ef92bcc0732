"""What a demonstration shows to its visitors: links to log in, and what happens on its stage."""

import json
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.markup import escape

from commonwatt.demo.layout import BUILT_IN_TOWN, DemoFolder
from commonwatt.demo.observer import Observer
from commonwatt.demo.stage import PROGRAMME, Play, Say, TourStage
from commonwatt.demo.tour import ORDERS, STAGE, STEPS, Tour
from commonwatt.identity.devices import FIRST_LOGIN
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.files import write_private
from commonwatt.town.loading import load_town

SEES = {
    "admin": "people and their roles, devices, the audit log",
    "operator": "gives commands, tunes schedules, silences alarms",
    "clerk": "proposes tariffs, makes and checks bills",
    "approver": "the second person: approves tariffs, issues bills",
    "researcher": "gets releases of data",
    "resident": "one household: its energy and its bills",
    "viewer": "sees the town, changes nothing",
}
"""What each role does in the console, in the order of the links."""


TRIES = 3  # of the command that invites people


@contextmanager
def invited(layout: DemoFolder) -> Iterator[dict[str, str]]:
    """Have the utility invite people while the parts start; the links by role are there at the end of the context.

    Raises:
        ConfigError: The utility's command failed.
    """
    links: dict[str, str] = {}
    config = layout.part("utility").config
    command = [sys.executable, "-m", "commonwatt", "utility", "people", "demonstration", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asking:
        yield links
        answer, fault = asking.communicate()
    code, tries = asking.returncode, 1
    while code and tries < TRIES:  # A visitor may have killed it together with the utility, which starts again.
        again = subprocess.run(command, capture_output=True, text=True, check=False)
        answer, fault, code, tries = again.stdout, again.stderr, again.returncode, tries + 1
    if code:
        why = fault.strip() or f"the command ended with {code}"
        raise ConfigError(f"the demonstration's people could not be invited: {why}")
    links.update((each["role"], each["link"]) for each in json.loads(answer))


def welcome(layout: DemoFolder, links: dict[str, str]) -> str:
    """Return where the console is, and the links of those who did not log in yet."""
    utility = layout.part("utility")
    first = utility.config.with_name(FIRST_LOGIN)
    links = links | ({"admin": first.read_text().strip()} if first.exists() else {})
    page = f"the utility's console: http://{utility.http}/"
    tour = f"eight things to try: http://{utility.http}/console/tour, or commonwatt demo --tour --data {layout.data}"
    if not links:
        return f"{page}\n{tour}"
    # Each link on a line of its own, so that it can be copied.
    rows = [f"{role}: {sees}\n{links[role]}" for role, sees in SEES.items() if role in links]
    return "\n".join([f"{page}, with a password of your choice; each link works once, for seven days:", *rows, tour])


SAID = 20  # most lines that the console shows


class Players:
    """Performs what stage and tour decide. Another town than the built-in one has no scenes: only its own events."""

    def __init__(self, layout: DemoFolder, console: Console) -> None:
        self._layout = layout
        self._console = console
        self._zone = ZoneInfo(layout.town.table.timezone)
        programme = PROGRAMME if layout.town == load_town(BUILT_IN_TOWN) else ()
        self._stage = TourStage(self._zone, programme, layout.clock.meters_stop_at)
        self._running: list[subprocess.Popen[str]] = []
        self._said: deque[tuple[EpochSeconds, Say]] = deque(maxlen=SAID)
        self._orders = layout.data / ORDERS
        self._orders.mkdir(mode=0o700, exist_ok=True)
        self._ordered()
        processes = {part.name for part in layout.processes}
        has = [one for one in STEPS if (layout.data / one.folder).is_dir() and processes.issuperset(one.stops)]
        self.tour = Tour(has)  # the steps that this town can show

    def look(self, observer: Observer, now: EpochSeconds) -> None:
        """Do what the stage and the tour decide, once a second."""
        seen, well = observer.on_stage(), observer.audit if observer.is_good and not observer.silent else ""
        unsettled = [name for name, one in seen.items() if one.phase != "connected" or not one.manages]
        tour = self.tour.handle(self._ordered(), now, well, unsettled, plays=bool(self._running))
        for effect in self._stage.handle(seen, now) + tour:
            if isinstance(effect, Play):
                self._play(effect)
            else:
                self._say(effect, now)
        for process in [one for one in self._running if one.poll() is not None]:
            self._running.remove(process)
            if process.returncode:
                why = process.communicate()[1].strip()
                self._say(Say(what="A command of the stage failed.", does=why, page="/console/town"), now)
        said = [{"at": at, **asdict(one)} for at, one in reversed(self._said)]
        audit = {"is_good": observer.is_good, "words": observer.audit}
        shown = {"audit": audit, "said": said, "steps": self.tour.shown()}
        write_private(self._layout.data / STAGE, json.dumps(shown) + "\n")

    def close(self) -> None:
        """Wait for the commands that run."""
        for process in self._running:
            process.communicate()
        (self._layout.data / STAGE).unlink(missing_ok=True)

    def _ordered(self) -> list[str]:
        """Return the steps that were ordered since the last look."""
        orders = list(self._orders.iterdir())
        for one in orders:
            one.unlink()
        return [one.name for one in orders]

    def _play(self, play: Play) -> None:
        words = play.words.split()
        config = self._layout.data / play.folder / f"{words[0]}.toml"
        command = [sys.executable, "-m", "commonwatt", *words, "--config", str(config)]
        # Without Ctrl-C: a command that is begun is done.
        self._running.append(
            subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
            )
        )

    def _say(self, say: Say, now: EpochSeconds) -> None:
        self._said.append((now, say))
        local = datetime.fromtimestamp(now, self._zone)
        self._console.print(f"[bold]{local:%H:%M} {escape(say.what)}[/bold] {escape(say.does)}")
        self._console.print(f"      see http://{self._layout.part('utility').http}{say.page}", soft_wrap=True)
