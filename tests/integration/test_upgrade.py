"""A town of release 0.3 is upgraded one controller after the other while data waits, and goes back the same way."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import pytest

from commonwatt.config.database_url import sqlite_url
from commonwatt.demo.layout import set_ceiling
from commonwatt.model.units import QUARTER_S
from commonwatt.protocol.commands import ALONE
from harness.network.waiting import PATIENCE_S, eventually
from harness.real.packages import RELEASE_0_3, need_history, old_release
from harness.real.site import Site, audited

NAMES = ("r001", "r002")
TOWN = "".join(f'[[microgrid]]\nid = "{n}"\nkind = "residential"\nhouses = 2\npush_share = 1.0\n' for n in NAMES)
# Town seconds in a real second: while data piles up, and while it drains. Faster, a part that stands still for two
# seconds would be so far behind that what is sent to it is from the future.
FAST, SLOW = 150, 60
LATE_S = 300  # town seconds behind the ceiling at which meters are late; a record is refused 900 s ahead
LOOK_S = 0.3  # real seconds after which all parts wait at the clock's ceiling, unless it is raised
BACKLOG_S = 2 * 3600  # of each controller, town time
MIXED_S = 1800  # between two controllers, town time

UTILITY = ("head-end", "utility")
OF_OFFICE = ("devices.json", "registry.json")  # the files that the office of each release writes for a machine
# What the settings files of this release have that 0.3 does not know.
NEWER = ("beats", "broker_rank", "clique", "cliques")


# Patience until a microgrid is commanded from home. While its line was cut for minutes, the other controller may have
# been granted it, and keeps it until home was well for a minute.
HOME_AGAIN_S = 3 * PATIENCE_S
PASSES_S = 5 * PATIENCE_S  # patience until a backlog is made: on a busy machine its clock waits for the meters


class Town(Site):
    """A town of 0.3: all parts run it but the meters of r002, which are of this release from the beginning."""

    def __init__(self, folder: Path, release: Path) -> None:
        super().__init__(folder, TOWN, speed=FAST)
        self.release = release
        self.pace = SLOW
        self._ceiling = self.layout.clock.now()
        self._closed = threading.Event()
        self._followed: set[str] = set()  # meters that were at the ceiling since their start
        self._timekeeper = threading.Thread(target=self._let_time_pass)
        self.lines = {name: self.proxy(f"{name} gateway", "head_end") for name in NAMES}
        # The office gives meters the keys of further brokers at a visit; until then they have their own alone.
        self.files = {p.name: p.config.read_text().partition("[[brokers]]")[0] for p in self.layout.parts}
        self.files["r002 meters"] = _without(self.files["r002 meters"], ("clique",))
        # The office of 0.3 made the town's tokens; this release's keeps them.
        for path in self.folder.glob("*/*-tokens.json"):
            path.unlink()
        for path in [path for place in ("head-end", *NAMES) for path in self._of_office(place)]:
            path.unlink()
        database = self.folder / "utility" / "utility.db"
        database.unlink()
        self.database = sqlite_url(database.resolve())
        register = ("utility", "register", "--town", str(self.town_file), "--database", self.database)
        self.run_old(*register, "--out", str(self.folder))
        self.old_places = {place: self._of_office(place) for place in ("head-end", *NAMES)}
        self.run_new("utility", "register", "--town", str(self.town_file), "--out", str(self.folder))
        self.places = {place: self._of_office(place) for place in self.old_places}
        for part in self.layout.parts:
            if part.name == "r002 meters":
                part.config.write_text(self.files[part.name])
            elif not part.name.startswith("meters"):
                self.becomes_old(part.name)

    def __enter__(self) -> Self:
        self._timekeeper.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._closed.set()
        self._timekeeper.join()
        super().__exit__(*error)

    def _let_time_pass(self) -> None:
        """Raise the clock's ceiling at the present pace; on a busy machine, all parts wait there."""
        clock = self.layout.clock
        while not self._closed.wait(LOOK_S):
            if self._meters_are_late():
                continue
            clock.monotonic_origin += clock.real_s(max(0.0, clock.now() - self._ceiling))
            self._ceiling += LOOK_S * self.pace
            set_ceiling(self.layout, self._ceiling)

    def _meters_are_late(self) -> bool:
        """Return whether running meters are behind the ceiling.

        Else a moment in which they stand still would be hours, by which an answer would set their clocks wrong.
        """
        late = False
        for name in [f"{place} meters" for place in NAMES]:
            if name not in self.processes:
                self._followed.discard(name)
                continue
            slot_end = self._slot_end(name.split()[0])
            if slot_end >= self._ceiling - LATE_S:
                self._followed.add(name)
            else:
                # After a start they have no slot yet, until time goes on.
                late = late or name in self._followed
        return late

    def _slot_end(self, place: str) -> int:
        """Return the end of the newest slot that a microgrid's meters recorded; 0: none yet."""
        store = self.folder / place / "meters.db"
        if not store.exists():
            return 0
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
            if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'slot'").fetchone() is None:
                return 0
            return int((connection.execute("SELECT slot_end FROM slot").fetchone() or [0])[0])

    def stop(self, *names: str) -> None:
        """Stop parts by SIGTERM; how soon they end is not this test's."""
        for name in names:
            process = self.processes.pop(name)
            process.terminate()
            assert process.wait(PATIENCE_S) == 0, self.log(name)

    def _of_office(self, place: str) -> dict[Path, bytes]:
        paths = [self.folder / place / name for name in OF_OFFICE]
        return {path: path.read_bytes() for path in paths if path.exists()}

    def becomes_old(self, *names: str) -> None:
        """Let parts of a machine run 0.3, with its settings and its office's files."""
        for name in names:
            part = self.layout.part(name)
            part.config.write_text(_without(self.files[name], NEWER))
            self.commands[name], self.environments[name] = self._old(*part.command[3:]), {}
            for path, content in self.old_places.get(name.partition(" ")[0], {}).items():
                path.write_bytes(content)

    def becomes_new(self, *names: str) -> None:
        """Let parts of a machine run this release, likewise."""
        for name in names:
            self.layout.part(name).config.write_text(self.files[name])
            del self.commands[name], self.environments[name]
            for path, content in self.places.get(name.partition(" ")[0], {}).items():
                path.write_bytes(content)

    def _old(self, *words: str) -> list[str]:
        code = f"import sys; sys.path.insert(0, {str(self.release)!r}); from commonwatt.__main__ import main; main()"
        return [sys.executable, "-c", code, *words]

    def run_old(self, *words: str) -> str:
        """Run a command of 0.3 to its good end."""
        # By the path and the folder: the audit starts commands of its own.
        environment = os.environ | {"PYTHONPATH": str(self.release)}
        return _run([sys.executable, "-m", "commonwatt", *words], cwd=self.release, env=environment)

    def run_new(self, *words: str) -> str:
        """Run a command of this release to its good end."""
        return _run([sys.executable, "-m", "commonwatt", *words])

    def asked(self, name: str, sql: str) -> int:
        """Return the number that a query of a gateway's store gives; 0: none."""
        with closing(sqlite3.connect(f"file:{self.folder / name / 'gateway.db'}?mode=ro", uri=True)) as connection:
            return int(connection.execute(sql).fetchone()[0] or 0)

    def relayed(self, name: str) -> int:
        """Return how many parts the utility has acknowledged."""
        return self.asked(name, "SELECT count(*) FROM part WHERE relayed IN (5, 6)")

    def waiting(self, name: str) -> int:
        """Return how many parts wait for the utility."""
        return self.asked(name, "SELECT count(*) FROM part WHERE relayed NOT IN (5, 6)")

    def utility_store(self, name: str) -> int:
        """Return the id of the utility's store that a gateway knows."""
        return self.asked(name, "SELECT value FROM setting WHERE key = 'utility_store'")

    def backlog_s(self, name: str) -> int:
        """Return how old the oldest data is that waits, town seconds."""
        oldest = self.asked(name, "SELECT min(quarter) FROM part WHERE relayed NOT IN (5, 6)")
        return int(self._ceiling) - oldest * QUARTER_S if oldest else 0

    def wait_for_backlogs(self) -> None:
        """Cut the lines of both controllers until each has a backlog."""
        for line in self.lines.values():
            line.refuse()
            line.cut()
        self.pace = FAST
        eventually(lambda: all(self.backlog_s(name) >= BACKLOG_S for name in NAMES), PASSES_S)
        self.pace = SLOW

    def pass_half_an_hour(self) -> None:
        """Let the releases be mixed for half an hour."""
        end = self._ceiling + MIXED_S
        self.pace = FAST
        eventually(lambda: self._ceiling >= end, PASSES_S)
        self.pace = SLOW

    def start_controller(self, name: str) -> None:
        """Start a controller that was upgraded or set back, and restore its line; wait until its backlog is gone."""
        self.lines[name].listen()
        self.start(f"{name} broker", f"{name} gateway")
        eventually(lambda: self.backlog_s(name) <= 2 * QUARTER_S)

    def stop_controller(self, name: str) -> None:
        """Stop a controller that has a backlog."""
        self.stop(f"{name} gateway", f"{name} broker")
        assert self.backlog_s(name) >= BACKLOG_S

    def empty_a_battery(self, name: str) -> None:
        """Empty a microgrid's first battery and fill its last: the gateway commands the last one to share."""
        self.stop(f"{name} meters")
        with closing(sqlite3.connect(self.folder / name / "meters.db")) as connection:
            levels = sorted(json.loads(connection.execute("SELECT levels FROM slot").fetchone()[0]).items())
            low, high = [(meter, 0) for meter, _ in levels[:-1]], (levels[-1][0], 28_000_000)
            connection.execute("UPDATE slot SET levels = ?", (json.dumps(dict([*low, high])),))
            connection.commit()
        self.start(f"{name} meters")

    def obeys(self, name: str, rank: int, counter: int = 1) -> bool:
        """Return whether a meter shares by a command of a rank, under this counter or a higher one."""
        states = [held for held in self._sharing(name) if held is not None and held["value"] == "on"]
        return any(held["epoch"][0] >= counter and held["epoch"][1] == rank for held in states)

    def _sharing(self, name: str) -> list[dict[str, Any] | None]:
        """Return the state of sharing that each meter holds."""
        with closing(sqlite3.connect(f"file:{self.folder / name / 'meters.db'}?mode=ro", uri=True)) as connection:
            return [json.loads(held).get("sharing") for (held,) in connection.execute("SELECT held FROM orders")]


def _without(settings: str, keys: tuple[str, ...]) -> str:
    return "".join(f"{line}\n" for line in settings.splitlines() if line.partition(" ")[0] not in keys)


def _run(line: list[str], **options: Any) -> str:
    done: subprocess.CompletedProcess[str] = subprocess.run(
        line, capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def old(tmp_path: Path) -> Path:
    need_history()
    return old_release(RELEASE_0_3, tmp_path / "0.3")


def test_row_29_an_upgrade_and_its_reversal_while_data_waits(tmp_path: Path, old: Path) -> None:
    with Town(tmp_path / "town", old) as town:
        town.start(*UTILITY, *(f"{name} {part}" for name in NAMES for part in ("broker", "gateway", "meters")))
        eventually(lambda: all(town.relayed(name) > 20 for name in NAMES))
        # The utility first; controllers of 0.3 go on with it.
        upgrade_utility(town, tmp_path / "backup.db")
        before = {name: town.relayed(name) for name in NAMES}
        eventually(lambda: all(town.relayed(name) > before[name] for name in NAMES))
        town.wait_for_backlogs()
        upgrade(town, "r001", rank=1)
        town.pass_half_an_hour()
        upgrade(town, "r002", rank=2)
        eventually(lambda: audited(town.folder).good)  # Events may be on their way.

        town.wait_for_backlogs()
        go_back(town, "r001")
        town.pass_half_an_hour()
        go_back(town, "r002")
        restore_utility(town, tmp_path / "backup.db")
        town.stop(*(f"{name} meters" for name in NAMES))
        town.becomes_old("r002 meters")
        eventually(lambda: not any(town.waiting(name) for name in NAMES))
        assert "nothing lost, nothing counted twice" in town.run_old("audit", "--data", str(town.folder))


def upgrade_utility(town: Town, backup: Path) -> None:
    town.run_old("utility", "backup", str(backup), "--config", str(town.layout.part("utility").config))
    town.stop("utility", "head-end")
    town.becomes_new("head-end", "utility")
    town.run_new("utility", "register", "--town", str(town.town_file), "--database", town.database)
    town.start("head-end", "utility")


def restore_utility(town: Town, backup: Path) -> None:
    """Let the utility go back; the gateways send it again what the backup does not have."""
    before = {name: town.utility_store(name) for name in NAMES}
    town.stop("utility", "head-end")
    town.becomes_old("head-end", "utility")
    config = ("--config", str(town.layout.part("utility").config))
    town.run_old("utility", "restore", str(backup), "--replace", *config)
    town.start("head-end", "utility")
    eventually(lambda: all(town.utility_store(name) != before[name] for name in NAMES))


def upgrade(town: Town, name: str, rank: int) -> None:
    """Upgrade a controller; its meters obey it as one of a clique."""
    town.stop_controller(name)
    town.becomes_new(f"{name} broker", f"{name} gateway")
    town.start_controller(name)
    town.empty_a_battery(name)
    eventually(lambda: town.obeys(name, rank), HOME_AGAIN_S)


def go_back(town: Town, name: str) -> None:
    """Let a controller go back to 0.3; its meters obey a share command of that."""
    town.stop_controller(name)
    said = town.run_new("gateway", "downgrade", "--config", str(town.layout.part(f"{name} gateway").config))
    found = re.search(r"epoch \[(\d+), 0\]", said)
    assert found is not None, said
    town.becomes_old(f"{name} broker", f"{name} gateway")
    town.start_controller(name)
    town.empty_a_battery(name)
    eventually(lambda: town.obeys(name, ALONE, int(found[1])), HOME_AGAIN_S)
