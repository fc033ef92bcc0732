"""The shell of the stage: gives its commands to the running meters, and prints its lines."""

import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.markup import escape

from commonwatt.demo.layout import BUILT_IN_TOWN, Layout
from commonwatt.demo.stage import PROGRAMME, Play, Say, Seen, Stage
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.town.loading import load_town


class Players:
    """Performs what the stage decides. Another town than the built-in one has no scenes: only its own events."""

    def __init__(self, layout: Layout, console: Console) -> None:
        self._layout = layout
        self._console = console
        self._zone = ZoneInfo(layout.town.table.timezone)
        programme = PROGRAMME if layout.town == load_town(BUILT_IN_TOWN) else ()
        self._stage = Stage(self._zone, programme, layout.clock.meters_stop_at)
        self._running: list[subprocess.Popen[str]] = []

    def look(self, seen: Mapping[MicrogridId, Seen], now: EpochSeconds) -> None:
        """Do what the stage decides, once a second."""
        for effect in self._stage.handle(seen, now):
            if isinstance(effect, Play):
                self._play(effect)
            else:
                self._say(effect, now)
        for process in [one for one in self._running if one.poll() is not None]:
            self._running.remove(process)
            if process.returncode:
                self._console.print(f"[red]{escape(process.communicate()[1].strip())}[/red]")

    def close(self) -> None:
        """Wait for the commands that run."""
        for process in self._running:
            process.communicate()

    def _play(self, play: Play) -> None:
        config = self._layout.data / play.folder / "meters.toml"
        command = [sys.executable, "-m", "commonwatt", "meters", *play.words.split(), "--config", str(config)]
        # Without Ctrl-C: a command that is begun is done.
        self._running.append(
            subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
            )
        )

    def _say(self, say: Say, now: EpochSeconds) -> None:
        local = datetime.fromtimestamp(now, self._zone)
        self._console.print(f"[bold]{local:%H:%M} {escape(say.what)}[/bold] {escape(say.does)}")
        self._console.print(f"      see http://{self._layout.part('utility').http}{say.page}", soft_wrap=True)
