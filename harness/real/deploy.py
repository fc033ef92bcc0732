"""Read the unit files of ``deploy/``, and the steps of docs/operations.md, for tests."""

import re
import shlex
import shutil
from collections import defaultdict
from pathlib import Path

from harness.docs.generate import DOCS, blocks_of
from harness.real import forks

DEPLOY = DOCS.parent / "deploy"
SYSTEMD = DEPLOY / "systemd"
PAGE = DOCS / "operations.md"

PROGRAM = "/opt/commonwatt/current/bin/commonwatt"
STATE = "/var/lib/commonwatt"
MOSQUITTO = "/usr/sbin/mosquitto"

SHELL = "/bin/sh"
FIND = "/usr/bin/find"

UNITS = {path.name: path for path in sorted(SYSTEMD.glob("*.service"))}
SERVICES = sorted(name for name, path in UNITS.items() if "\nType=notify\n" in path.read_text())
"""The units of services that run permanently."""

DROP_IN = SYSTEMD / "commonwatt-.service.d" / "50-common.conf"

INSTANCES = {"commonwatt-mosquitto@.service": "head-end"}
"""Instance names of templates in tests; all others are ``r001``."""


def instance_of(unit: str) -> str:
    """Return a unit's name with its instance."""
    return unit.replace("@.", f"@{INSTANCES.get(unit, 'r001')}.")


def keys(unit: str) -> dict[str, list[str]]:
    """Return the settings of a unit and of the common drop-in, by key, with the instance inserted."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in (UNITS[unit], DROP_IN):
        for line in path.read_text().splitlines():
            if match := re.fullmatch(r"([A-Za-z]+)=(.*)", line):
                found[match[1]].append(match[2].replace("%i", INSTANCES.get(unit, "r001")))
    return found


def commands(unit: str, program: list[str], state: Path) -> list[list[str]]:
    """Return a unit's commands, in order, with other paths for the program and the state folder."""
    own = keys(unit)
    lines = [line.replace(STATE, str(state)) for line in own["ExecStartPre"] + own["ExecStart"] + own["ExecStartPost"]]
    return [[*program, *words[1:]] if words[0] == PROGRAM else words for words in map(_words, lines)]


def _words(line: str) -> list[str]:
    words = shlex.split(line)
    return shlex.split(words[2].removeprefix("exec ")) if words[:2] == [SHELL, "-c"] else words


def root(folder: Path) -> Path:
    """Make a root folder with our units, systemd's units, and the programs of our units, for systemd's tools."""
    units = folder / "etc" / "systemd" / "system"
    shutil.copytree(SYSTEMD, units)
    shutil.copytree("/lib/systemd/system", folder / "usr" / "lib" / "systemd" / "system", symlinks=True)
    for program in (PROGRAM, MOSQUITTO, SHELL, FIND):
        path = folder / program.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    return folder


def office(folder: Path, program: list[str]) -> Path:
    """Run the page's steps for the office in ``folder``; return ``site``."""
    text = PAGE.read_text()
    town = next(content for kind, content in blocks_of(text) if kind == "toml" and content.startswith("[[microgrid]]"))
    (folder / "town.toml").write_text(town)
    own = "office/bin/commonwatt "
    steps = [line for kind, content in blocks_of(text) if kind == "sh" for line in content.splitlines()]
    for line in steps:
        # Renewal is a later step, and lists existing certificates.
        if line.startswith(
            (f"{own}utility register", f"{own}enroll authority", f"{own}enroll broker", f"{own}enroll d")
        ):
            words = shlex.split(line.removeprefix(own))
            forks.run([*program, *words], cwd=folder, check=True, timeout=60)
    for name, content in settings(text).items():
        (folder / name).write_text(content)
    return folder / "site"


def register_step(town: Path, database: str) -> list[str]:
    """Return the command that fills the utility's database, with another town file and database."""
    own = "sudo -u commonwatt commonwatt "
    lines = [line for kind, content in blocks_of(PAGE.read_text()) if kind == "sh" for line in content.splitlines()]
    (step,) = (shlex.split(line.removeprefix(own)) for line in lines if line.startswith(f"{own}utility register "))
    step[step.index("--town") + 1] = str(town)
    step[step.index("--database") + 1] = database
    return step


def settings(text: str) -> dict[str, str]:
    """Return the files that the page shows, by the name before each."""
    return dict(re.findall(r"`(site/\S+\.toml)`[^`]*:\n\n```toml\n(.*?)```", text, re.DOTALL))
