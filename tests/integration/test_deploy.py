"""A town set up by the commands of docs/operations.md and the guides, in folders in place of the machines' roots.

Packages, environments, PostgreSQL and systemd are the test's own; each unit's command is started as the unit has it.
"""

import os
import re
import shlex
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from commonwatt.cli.status import ask
from commonwatt.identity.devices import digest
from commonwatt.runtime.clock import Clock, save_clock
from harness.docs.generate import blocks_of
from harness.docs.marked import DOCS
from harness.network.waiting import ended, eventually, free_port
from harness.real import forks
from harness.real.deploy import PAGE, STATE, started, steps, words_of, write_site
from harness.real.postgres import Postgres

PROGRAM = [sys.executable, "-m", "commonwatt"]

# First words, after ``sudo``, of lines that a test does not run: packages, services, environments, the database.
OF_THE_SYSTEM = ("apt-get", "cp", "make", "systemctl", "python3", "-u", "pip")
SPEED = 30  # town seconds in a real second


@dataclass(frozen=True, kw_only=True)
class Place:
    """A machine: the folder in which its technician types, and the folder in place of its root."""

    home: Path
    root: Path

    @property
    def state(self) -> Path:
        return self.root / STATE.lstrip("/")

    def type(self, line: str) -> str:
        """Run a line of a page, with this machine's paths and the office's authority; return what it prints."""
        if "FINGERPRINT" in line:
            certificate = self.home.parent / "office" / "site" / "authority" / "ca.pem"
            line = line.replace("FINGERPRINT", digest(certificate.read_bytes()))
        words = words_of(line)
        if words is None:
            plain = [word for word in shlex.split(line) if word != "sudo"]
            assert Path(plain[0]).name in OF_THE_SYSTEM, line
            return ""
        words += ["--root", str(self.root)] if words[:2] == ["site", "unpack"] else []
        words = [word if word == str(self.root) else word.replace(STATE, str(self.state)) for word in words]
        done = forks.run([*PROGRAM, *words], cwd=self.home, timeout=60)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        return done.stdout


@dataclass(frozen=True, kw_only=True)
class Town:
    """The machines of a town that runs."""

    office: Place
    utility: Place
    controller: Place

    @property
    def utility_file(self) -> Path:
        return self.utility.state / "utility" / "utility.toml"

    @property
    def gateway_file(self) -> Path:
        return self.controller.state / "r001" / "gateway.toml"

    def carry(self, line: str) -> None:
        """Copy the bundle that an ``scp`` line names, and nothing that it does not name."""
        (bundle,) = (word for word in line.split() if word.endswith(".bundle"))
        place = self.utility if bundle.startswith("utility") else self.controller
        shutil.copy(self.office.home / bundle, place.home)


def start_what_it_says(said: str, place: Place, stack: ExitStack) -> None:
    """Do what ``site unpack`` says where systemd does not run: fill the registry, start the services."""
    for path in place.state.rglob("*"):
        # The services of this test run as its own user.
        os.chown(path, os.geteuid(), os.getegid())
    for line in said.splitlines():
        words = line.split()
        if words[:1] == ["runuser"]:
            place.type(line.strip().partition("-- ")[2])
        for unit in words[2:] if words[:2] == ["systemctl", "restart"] else []:
            name, _, kind = unit.partition("@")[0].removesuffix(".service").partition(".")
            if kind != "timer":
                ear = stack.enter_context(started(f"{name}{'@' if '@' in unit else ''}.service", PROGRAM, place.state))
                assert b"READY=1" in ear.recv(500), unit


def move(site: Path, database: str, clock: Path) -> tuple[str, str]:
    """Give the town addresses, a database and a clock of this test; return the addresses of both brokers."""
    mqtt, head_end, *http = (f"127.0.0.1:{free_port()}" for _ in range(5))
    file = site / "site.toml"
    file.write_text(
        f"{file.read_text()}"
        f'broker = {{listen = "{mqtt}", http = "{http[0]}"}}\n'
        f'gateway = {{head_end = "{head_end}", http = "{http[1]}", clock = "{clock}"}}\n'
        f'[head_end]\nlisten = "{head_end}"\n'
        f'[utility]\ndatabase = "{database}"\nhttp = "{http[2]}"\nclock = "{clock}"\n'
    )
    return mqtt, head_end


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Set up a town by the lines of the page, and start what its units start."""
    folder = tmp_path_factory.mktemp("deploy")
    places = [Place(home=folder / name, root=folder / name / "root") for name in ("office", "utility", "controller")]
    for place in places:
        place.root.mkdir(parents=True)
    office, utility, controller = places
    town = Town(office=office, utility=utility, controller=controller)
    clock = folder / "clock.json"
    save_clock(clock, Clock(origin=time.time(), monotonic_origin=time.monotonic(), speed=SPEED))
    with Postgres(folder, durable=False) as server, ExitStack() as stack:
        write_site(office.home)
        for line in steps("The office"):
            if line.startswith("scp "):
                town.carry(line)
                continue
            office.type(line)
            if line.endswith(" site init"):
                mqtt, _ = move(office.home / "site", server.url, clock)
                office.type("office/bin/commonwatt site init")
        for place, heading in ((utility, "The utility"), (controller, "A controller")):
            for line in steps(heading):
                if said := place.type(line):
                    start_what_it_says(said, place, stack)
        shown = next(text for kind, text in blocks_of(PAGE.read_text()) if kind == "toml" and "[meters]" in text)
        meters = office.home / "meters.toml"
        meters.write_text(f'{shown.replace("10.1.0.1:8883", mqtt)}\nclock = "{clock}"\n')
        log = folder / "meters.log"
        process = forks.start([*PROGRAM, "meters", "run", "--config", str(meters)], log)
        try:
            yield town
        finally:
            eventually(log.read_text)  # It handles signals before its first line.
            process.terminate()
            assert ended(process, 10) == 0, log.read_text()


def test_from_bare_machines_to_a_reading_at_the_utility(town: Town) -> None:
    eventually(lambda: ask(town.gateway_file)["connected"] == {"meters": True, "head_end": True})
    eventually(lambda: ask(town.utility_file)["head_end_connected"])
    eventually(lambda: ask(town.utility_file)["totals"]["received_slots"] > 0)
    assert ask(town.utility_file)["alarms"] == []
    # Its broker has the gateway registered besides the meters.
    broker = ask(town.controller.state / "r001" / "broker.toml")
    assert ask(town.gateway_file)["meters"]["registered"] == broker["devices"] - 1


def test_no_secret_of_the_town_is_on_a_machine_that_does_not_need_it(town: Town) -> None:
    secrets = ("meter", "ca-key", "authority", "issued")
    for place in (town.utility, town.controller):
        assert not [path for path in place.state.rglob("*") if path.name.startswith(secrets)]
        files = [path for path in place.state.rglob("*.*") if path.suffix in (".pem", ".json", ".toml")]
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in town.office.home.glob("*.bundle")} == {0o600}


def test_the_guide_of_bundles(town: Town) -> None:
    guide = DOCS / "guides" / "bundles.md"
    (check,) = steps("Check", guide)
    eventually(lambda: "meters yes, head_end yes" in town.controller.type(check))
    (listing,) = steps("Connect the meters", guide)
    listed = listing.partition(" cat ")[2].replace(STATE, str(town.controller.state))
    assert '"boundary"' in Path(listed).read_text()
    (again,) = steps("When something changes", guide)
    # Office and controller agree: nothing is replaced, nothing restarted.
    said = town.controller.type(again)
    assert "of them changed: 0" in said
    assert "restart" not in said
    (delete,) = steps("Before you leave", guide)
    assert delete == "rm r001.bundle"


def test_the_operators_guide(town: Town) -> None:
    guide = DOCS / "guides" / "operator.md"
    lines = [line for kind, text in blocks_of(guide.read_text()) if kind == "sh" for line in text.splitlines()]
    (schedules,) = (line for line in lines if " show schedules " in line)
    (further,) = (text for kind, text in blocks_of(guide.read_text()) if kind == "toml" and "[[microgrid]]" in text)
    shown: dict[str, str] = {}
    for line in lines:
        if line.endswith(" site init") and line in shown:
            with (town.office.home / "site/site.toml").open("a") as file:
                file.write(f"{further}\n")
        if line.startswith("sudo commonwatt site unpack"):
            town.carry("scp utility.bundle")
        place = town.office if line.startswith("office/") else town.utility
        if " utility command " in line:
            # What was before is known once the gateway has reported.
            eventually(lambda: re.search(r"r001.*\d", town.utility.type(schedules)))
        shown[line] = place.type(line)
    (status,) = steps("Is all well?", guide)
    assert "head end connected: yes" in shown[status]
    (unpack,) = (line for line in lines if " site unpack " in line)
    # With the second microgrid there are controllers that take over: clique.json, and its line in utility.toml.
    assert "of them changed: 4" in shown[unpack], "devices.json, town.toml and these two"
    assert (town.office.home / "r002.bundle").exists()
