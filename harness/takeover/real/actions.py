"""What is done to the bench's town: lines, processes, and the first controller's clock, store and release."""

import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from harness.network.waiting import eventually
from harness.real.fake_clock import FakeClock
from harness.real.releases import RELEASE_0_3, old_release
from harness.takeover.real.register import registering
from harness.takeover.real.town import RESTART_S, Town, broker, gateway

Action = Callable[[Town], None]

HELD_S = 180.0  # seconds within which a microgrid goes to another controller, with its last meter
R001 = (broker("r001"), gateway("r001"))
"""The parts of the first controller."""


def nothing(town: Town) -> None:
    """Do nothing."""
    del town


def in_turn(*actions: Action) -> Action:
    """Do several things."""

    def does(town: Town) -> None:
        for action in actions:
            action(town)

    return does


def _each(do: Callable[[Town, Any], object], *things: object) -> Action:
    def does(town: Town) -> None:
        for thing in things:
            do(town, thing)

    return does


def waits(seconds: float) -> Action:
    """Let time pass."""
    return _each(lambda _, each: time.sleep(each), seconds)


# Lines, by machine, or by sender and receiver.

blackholed = partial(_each, lambda town, name: town.machines.blackhole(name))
restored = partial(_each, lambda town, name: town.machines.restore(name))
cut = partial(_each, lambda town, pair: town.machines.cut(*pair))
joined = partial(_each, lambda town, pair: town.machines.mend(*pair))

# Processes, by part.

killed = partial(_each, Town.kill)
stopped = partial(_each, Town.stop)
started = partial(_each, Town.start)


def killed_and_restarted(part: str) -> Action:
    """Kill a part, and start it as systemd does."""

    def happens(town: Town) -> None:
        town.kill(part)
        time.sleep(RESTART_S)
        town.start(part, loaded=False)

    return happens


def paused(town: Town) -> None:
    """Stop the first gateway without a word."""
    town.processes[gateway("r001")].send_signal(signal.SIGSTOP)


def goes_on(town: Town) -> None:
    """End ``paused``."""
    town.processes[gateway("r001")].send_signal(signal.SIGCONT)


# Waits.


def held_by(**holders: str) -> Action:
    """Wait until all meters of microgrids obey these controllers."""
    return lambda town: town.eventually_held_by(holders, HELD_S)


def taken(town: Town) -> None:
    """Wait until the next controller manages the first microgrid."""
    eventually(lambda: "manages r001 under epoch" in town.log(gateway("r002")).read_text())


# The first controller's clock.


def clocked(town: Town) -> None:
    """Give it a clock that can be set, and that nobody keeps right."""
    town.environments[gateway("r001")] = FakeClock(town.folder, "r001").environment
    town.codes[gateway("r001")] = "import commonwatt.runtime.clock as c; c._synchronised = lambda: False"


def clock(ahead_s: float) -> Action:
    """Set the clock's error."""
    return lambda town: FakeClock(town.folder, "r001").set(ahead_s)


# The first controller's stores.


def _stores(town: Town, pattern: str) -> list[Path]:
    return list((town.folder / "r001").glob(pattern))


def copied(town: Town) -> None:
    """Copy them."""
    (town.folder / "copy").mkdir()
    for store in _stores(town, "gateway*.db"):
        copy = town.folder / "copy" / store.name
        with closing(sqlite3.connect(store)) as source, closing(sqlite3.connect(copy)) as to:
            source.backup(to)


def emptied(town: Town) -> None:
    """Delete them."""
    for path in _stores(town, "gateway*.db*"):
        path.unlink()


def put_back(town: Town) -> None:
    """Replace them by the copies."""
    emptied(town)
    shutil.copytree(town.folder / "copy", town.folder / "r001", dirs_exist_ok=True)


# The first controller's release.


def older(town: Town) -> None:
    """Let it run the release before takeover, with that release's settings; needs the history of the repository."""
    with registering:
        release = old_release(RELEASE_0_3, town.folder / "older")
    for part in R001:
        town.environments[part] = {}
        town.codes[part] = f"import sys; sys.path.insert(0, {str(release)!r})"
    settings = town.folder / "r001" / "gateway.toml"
    lines = settings.rename(settings.with_suffix(".new")).read_text().splitlines()
    settings.write_text("\n".join(line for line in lines if not line.startswith(("clique", "beats"))))
    town.silent.add("r001")


def upgraded(town: Town) -> None:
    """Stop the older release, and start this one with the same store."""
    stopped(gateway("r001"), broker("r001"))(town)
    settings = town.folder / "r001" / "gateway.toml"
    settings.with_suffix(".new").rename(settings)
    for part in R001:
        del town.codes[part], town.environments[part]
    town.silent.clear()
    town.start(*R001)
