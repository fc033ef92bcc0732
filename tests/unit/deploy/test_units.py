"""The units of ``deploy/systemd`` as systemd sees them, and as the code means them."""

import os
import platform
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from commonwatt.runtime import watchdog
from harness.docs.generate import all_commands
from harness.real.deploy import (
    DEPLOY,
    FIND,
    MOSQUITTO,
    PGBACKREST,
    PROGRAM,
    SERVICES,
    SYSTEMD,
    UNITS,
    commands,
    instance_of,
    keys,
    root,
)
from harness.real.parts import real_part

OWN = sorted(set(SERVICES) - {"commonwatt-mosquitto@.service"})

EXPOSURE = 1.7
"""Of 10, by ``systemd-analyze security``; what is left is the network, and /proc for the metrics of processes."""


@pytest.mark.real
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    verify = [str(real_part("systemd-analyze")), "verify", f"--root={root(tmp_path)}", "--man=no"]
    timers = [path.name for folder in (SYSTEMD, PGBACKREST) for path in folder.glob("*.timer")]
    timers += ["pgbackrest-commonwatt@full.service"]
    done = subprocess.run(
        [*verify, *map(instance_of, UNITS), *timers], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.real
def test_systemd_finds_little_that_a_service_could_harm(tmp_path: Path) -> None:
    judge = [str(real_part("systemd-analyze")), "security", "--offline=true", f"--root={root(tmp_path)}", "--no-pager"]
    judge.append(f"--threshold={EXPOSURE * 10:.0f}")
    for unit in UNITS:
        done = subprocess.run([*judge, instance_of(unit)], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout
        assert "Overall exposure level" in done.stdout


@pytest.mark.parametrize("unit", UNITS)
def test_what_a_unit_starts_exists_with_these_options(unit: str) -> None:
    known = {command.words: command for command in all_commands()}
    for words in commands(unit, [PROGRAM], Path("/var/lib/commonwatt")):
        if words[0] == PROGRAM:
            command = known.get((words[1], words[2])) or known[(words[1],)]
            options = {name for option in command.options for name in option.names}
            assert {word for word in words if word.startswith("-")} <= options
        else:
            assert words[0] in (MOSQUITTO, FIND)


@pytest.mark.parametrize("unit", OWN)
def test_systemd_waits_longer_than_our_own_watchdog(unit: str) -> None:
    own = keys(unit)
    assert own["Type"] == ["notify"]
    (limit,) = own["WatchdogSec"]
    # The last sign of life may be half that time old when something stops; ours tells what, then ends the process.
    assert float(limit) / 2 > watchdog.END_AFTER_S - watchdog.LOOK_EVERY_S
    assert float(limit) > watchdog.END_AFTER_S + 2 * watchdog.LOOK_EVERY_S


@pytest.mark.parametrize("unit", SERVICES)
def test_a_unit_starts_again_for_ever_and_waits_for_no_network(unit: str) -> None:
    own = keys(unit)
    assert (own["Restart"], own["StartLimitIntervalSec"]) == (["always"], ["0"])
    assert own["User"] == ["commonwatt"]
    assert "MemoryMax" in own
    assert not {"Wants", "Requires", "BindsTo", "Requisite"} & own.keys()
    assert set(" ".join(own["After"]).split()) <= {"network.target", "postgresql.service"}
    assert own["StateDirectory"][0] == own["WorkingDirectory"][0].removeprefix("/var/lib/")


@pytest.mark.parametrize("unit", OWN)
def test_what_the_code_asks_of_the_kernel_is_not_forbidden(unit: str) -> None:
    own = keys(unit)
    # Of two lists the later one holds; the last one that takes away is the second.
    assert own["SystemCallFilter"][:2] == ["@system-service", "~@privileged @resources"]
    allowed = set(" ".join(own["SystemCallFilter"][2:]).split())
    # Whether NTP keeps the clock (commonwatt/runtime/clock.py), and the low priority of long work (runtime/child.py).
    assert {"adjtimex", "clock_adjtime", "setpriority"} <= allowed
    assert "ProtectClock" not in own
    # Without /proc/stat no process_* metric is shown, and alerts stand on them.
    assert "ProcSubset" not in own


def test_the_user_of_the_units_is_made() -> None:
    lines = (DEPLOY / "sysusers" / "commonwatt.conf").read_text().splitlines()
    made = [line.split()[1] for line in lines if line.startswith("u ")]
    assert {name for unit in UNITS for name in keys(unit)["User"]} == set(made)


def test_the_containers_file_is_clean() -> None:
    path = DEPLOY / "Containerfile"
    # It comes with the `dev` extra, for the one kind of machine for which there is one.
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists() and platform.machine() != "x86_64":
        pytest.skip("needs hadolint, which there is for x86_64 only")
    done = subprocess.run([hadolint, path], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    text = path.read_text()
    users = re.findall(r"^USER (\S+)", text, re.MULTILINE)
    assert users
    assert users[-1] != "root"
    assert not re.search(r"token|password|\.pem|site/", text)


def test_the_container_gets_all_that_the_package_is_made_of() -> None:
    copied = re.findall(r"^COPY ([^-].*) /src", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    assert all((DEPLOY.parent / name).exists() for name in names)
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {pattern.rstrip("*") for pattern in packages} | {project["project"]["readme"], "pyproject.toml"} <= names


def test_what_killed_and_old_backups_leave_is_deleted_but_not_what_is_being_made(tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    days = {"old.db": 16, "new.db": 2, "killed.db.part": 2, "killed.db.part-journal": 2, "made.db.part": 0}
    for name, age in days.items():
        (folder / name).touch()
        moment = (folder / name).stat().st_mtime - age * 86_400
        os.utime(folder / name, (moment, moment))
    for words in commands("commonwatt-backup.service", [PROGRAM], tmp_path):
        if words[0] == FIND:
            subprocess.run(words, check=True, timeout=60)
    assert sorted(path.name for path in folder.iterdir()) == ["made.db.part", "new.db"]
