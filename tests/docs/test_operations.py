"""docs/operations.md: what it names is there, or is made by a step of it."""

import re
import sys
from pathlib import Path

import pytest

from commonwatt.config.files import check_file, check_named_files
from commonwatt.site.places import BACKUP_TIMER, services_of
from deploy.debian.package import CONTROLLER, UTILITY
from deploy.debian.package import version as package_version
from deploy.debian.wheels import MACHINES
from harness.docs.generate import blocks_of, code_of, command_of
from harness.docs.marked import DOCS
from harness.real.deploy import DEPLOY, PAGE, STATE, UNITS, commands, office, steps, words_of

GUIDES = sorted((DOCS / "guides").glob("*.md"))

UPGRADE = DOCS / "guides" / "upgrade.md"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return office(tmp_path_factory.mktemp("office"), [sys.executable, "-m", "commonwatt"])


def test_every_file_that_settings_name_was_made_at_the_office(site: Path) -> None:
    made = {path.relative_to(site).as_posix(): path for path in site.glob("*/*.toml")}
    assert made.keys() == {"r001/broker.toml", "r001/gateway.toml", "head-end/broker.toml", "utility/utility.toml"}
    for path in made.values():
        check_named_files(path, check_file(path))


@pytest.mark.parametrize("unit", UNITS)
def test_every_file_that_a_unit_reads_was_made_at_the_office(unit: str, site: Path) -> None:
    named = [word for words in commands(unit, [], Path(STATE)) for word in words if word.startswith(f"{STATE}/")]
    # The integrator writes an adapter's file on its machine, a cooperative that of its host (docs/controllers.md).
    made = (f"{STATE}/head-end/mosquitto", f"{STATE}/backups", f"{STATE}/r001/adapter.toml", f"{STATE}/r001/host.toml")
    for name in named:
        assert name.startswith(made) or (site / name.removeprefix(f"{STATE}/")).is_file(), name


def test_every_unit_is_started_at_a_place() -> None:
    started = [s for place in ("utility", "r001") for own in (True, False) for s in services_of(place, mosquitto=own)]
    started.append(BACKUP_TIMER)  # with SQLite
    started.append("commonwatt-adapter@r001.service")  # by the site file, or by the integrator
    started.append("commonwatt-host@cooperative.service")  # by a cooperative (docs/controllers.md)
    started.append("commonwatt-street.service")  # by `commonwatt street --service`
    assert {unit.partition("@")[0].partition(".")[0] for unit in UNITS} == {
        name.partition("@")[0].partition(".")[0] for name in started
    }


def test_no_machine_takes_more_than_eight_commands_and_the_page_counts_them() -> None:
    counted = re.findall(r"^### (.*) \((\d+) commands\)$", PAGE.read_text(), re.MULTILINE)
    assert [name for name, _ in counted] == ["The office", "The utility", "A controller"]
    for name, number in counted:
        assert len(steps(name)) == int(number) <= 8
    further = len(steps("Another meter, another microgrid")) + 1  # and the copy to the controller
    assert further + len(steps("A controller")) == 6


def test_the_guide_installs_a_controller_as_the_page_does() -> None:
    assert steps("Install and start", DOCS / "guides" / "bundles.md") == steps("A controller")


def test_every_file_of_the_project_that_the_page_names_is_there() -> None:
    named = {word.strip("'") for line in code_of(PAGE.read_text()) for word in line.split() if "/" in word}
    ours = {word for word in named if re.match(r"(deploy|grafana)/", word)}
    assert ours
    for word in ours:
        assert (DEPLOY.parent / word).exists(), word


def test_every_command_of_ours_exists_however_it_is_called() -> None:
    pages = "\n".join(page.read_text() for page in (PAGE, *GUIDES))
    shown = [line for kind, content in blocks_of(pages) if kind == "sh" for line in content.splitlines()]
    calls = [words for line in shown if (words := words_of(line))]
    assert len(calls) > 20
    for words in calls:
        command = command_of(words)
        assert command is not None, words
        options = {name for option in command.options for name in option.names}
        assert {word for word in words if word.startswith("-")} <= options, words


def test_the_packages_that_are_installed_are_those_that_are_made() -> None:
    version = re.search(r'^version = "(.+)"', (DEPLOY.parent / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert f"/opt/commonwatt/{version[1]}" in PAGE.read_text()
    named = {word for line in code_of(PAGE.read_text()) for word in re.findall(r"commonwatt-[a-z]+_[^ ]*\.deb", line)}
    names = {package.name for package in (CONTROLLER, UTILITY)}
    assert {name.partition("_")[0] for name in named} == names
    assert {name.split("_")[1] for name in named} == {package_version()}
    assert {name.split("_")[2].removesuffix(".deb") for name in named} <= MACHINES.keys()


def test_nothing_that_was_stopped_is_started_by_a_pattern() -> None:
    # `restart` of a pattern would start our broker beside the Mosquitto in its place, and a backup.
    for page in (PAGE, UPGRADE):
        assert not re.search(r"systemctl (re)?start \S*\*", page.read_text())
