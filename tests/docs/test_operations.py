"""docs/operations.md: what it names is there, or is made by a step of it."""

import re
import sys
from pathlib import Path

import pytest

from commonwatt.config.files import check_file, check_named_files
from harness.docs.generate import all_commands, blocks_of, code_of
from harness.real.deploy import DEPLOY, PAGE, STATE, UNITS, commands, office, settings


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return office(tmp_path_factory.mktemp("office"), [sys.executable, "-m", "commonwatt"])


def test_every_file_that_settings_name_was_made_at_the_office(site: Path) -> None:
    shown = settings(PAGE.read_text())
    assert {f"site/{name}.toml" for name in ("r001/broker", "r001/gateway", "head-end/broker", "utility/utility")} <= (
        shown.keys()
    )
    for name in shown:
        path = site.parent / name
        part = check_file(path)
        check_named_files(path, part)


@pytest.mark.parametrize("unit", UNITS)
def test_every_file_that_a_unit_reads_was_made_at_the_office(unit: str, site: Path) -> None:
    named = [word for words in commands(unit, [], Path(STATE)) for word in words if word.startswith(f"{STATE}/")]
    made = (f"{STATE}/head-end/mosquitto", f"{STATE}/backups")
    for name in named:
        assert name.startswith(made) or (site / name.removeprefix(f"{STATE}/")).is_file(), name


def test_the_page_starts_every_unit() -> None:
    lines = [line for line in code_of(PAGE.read_text()) if line.startswith("sudo systemctl enable --now ")]
    started = {name.partition("@")[0].partition(".")[0] for line in lines for name in line.split()[4:]}
    assert {unit.partition("@")[0].partition(".")[0] for unit in UNITS} <= started


def test_every_file_of_the_project_that_the_page_names_is_there() -> None:
    named = {word.strip("'") for line in code_of(PAGE.read_text()) for word in line.split() if "/" in word}
    ours = {word for word in named if re.match(r"(deploy|grafana)/", word)}
    assert ours
    for word in ours:
        assert (DEPLOY.parent / word).exists(), word


def test_every_command_of_ours_exists_however_it_is_called() -> None:
    known = {command.words: command for command in all_commands()}
    shown = [line for kind, content in blocks_of(PAGE.read_text()) if kind == "sh" for line in content.splitlines()]
    calls = [
        match[1].split()
        for line in shown
        if (match := re.search(r"(?:^|\bdo |-u commonwatt |office/bin/)commonwatt ([a-z][^;]*)", line))
    ]
    assert len(calls) > 10
    for words in calls:
        command = known.get(tuple(words[:2])) or known[(words[0],)]
        options = {name for option in command.options for name in option.names}
        assert {word for word in words if word.startswith("-")} <= options, words


def test_the_version_that_is_installed_is_the_one_of_the_package() -> None:
    version = re.search(r'^version = "(.+)"', (DEPLOY.parent / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert f"/opt/commonwatt/{version[1]}" in PAGE.read_text()


def test_nothing_that_was_stopped_is_started_by_a_pattern() -> None:
    # `restart` of a pattern would start our broker beside the Mosquitto in its place, and a backup.
    assert "systemctl try-restart 'commonwatt-*'" in PAGE.read_text()
    assert not re.search(r"systemctl (re)?start \S*\*", PAGE.read_text())
