"""``commonwatt config check`` on an adapter's file: faults of presets, with their line."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapters.commands.command import commands_of
from adapters.doctor import DOCTOR
from adapters.mapping.readers import readers_of
from commonwatt.cli.main import config_app
from commonwatt.config.adapter import AdapterSettings
from commonwatt.config.files import load_settings
from commonwatt.doctor.running import Running

HEAD = '[adapter]\nmicrogrid = "r001"\n'
KITCHEN = '[[meter]]\nid = 77001\ntoken = "t"\nsource = "kitchen"\npreset = "tasmota"\n'
CELLAR = KITCHEN.replace("77001", "77002").replace("tasmota", "tasmotta")
RULE = '[[rule]]\npreset = "tasmota"\ntopic = "t"\nformat = "plain"\nkind = "register"\nunit = "kWh"\n'
COMMAND = '[[command]]\npreset = "tasmota"\nkind = "reduce"\ntopic = "own"\non = "0"\noff = "1"\n'
WILD = "meter.0.{}: must be one topic: not empty, and without + and #"


def checked(path: Path, text: str) -> tuple[int, str]:
    path.write_text(text)
    done = CliRunner().invoke(config_app, ["check", str(path)])
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (KITCHEN + CELLAR, "line 12: meter.1.preset: [[meter]] 77002: no preset 'tasmotta'; there are: "),
        (KITCHEN + COMMAND, "line 9: command.0.preset: [[command]] of preset tasmota: Commonwatt has one of this name"),
        *((KITCHEN.replace("kitchen", each), f"line 6: {WILD.format('source')}") for each in ("flat #2", "+", "a/#")),
        (KITCHEN + 'channel = "+"\n', f"line 8: {WILD.format('channel')}"),
        (KITCHEN + 'reduce = {topic = "a", on = "0", off = "1"}\n', "line 3: meter.0: reduce: is no table of a meter"),
        (KITCHEN + RULE.replace("tasmota", "own") + 'restart_topic = "+/LWT"\n', "line 14: rule.0.restart_topic.0: "),
        (KITCHEN + 'direction = "generated"\n', "line 8: meter.0.direction: "),
    ],
)
def test_a_fault_of_a_preset_is_named_with_its_line(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "adapter.toml"
    code, told = checked(path, HEAD + text)
    assert code == 2
    assert f"{path}: {fault}" in told


def test_an_unknown_preset_is_shown_the_known_ones(tmp_path: Path) -> None:
    _, told = checked(tmp_path / "adapter.toml", HEAD + CELLAR)
    assert "tasmota," in told
    assert "shelly-gen1," in told


def test_a_file_with_known_presets_is_good(tmp_path: Path) -> None:
    path = tmp_path / "adapter.toml"
    assert checked(path, HEAD + KITCHEN) == (0, f"{path}: good, for: commonwatt adapter run --config {path}\n")


def test_rules_and_commands_of_a_person_win_over_a_later_preset_of_the_same_name(tmp_path: Path) -> None:
    """An upgrade brings a preset that is named as that of a file: the file goes on as before, and a notice says so."""
    path = tmp_path / "adapter.toml"
    assert checked(path, HEAD + KITCHEN + 'obeys = "reduce"\n' + RULE + COMMAND)[0] == 0
    settings = load_settings(path, "adapter", AdapterSettings)
    assert [reader.topics for reader in readers_of(settings).all] == [("t",)]
    assert [command.settings.topic for command in commands_of(settings)] == ["own"]
    running = Running(part="adapter", config=path, answer=None, failure="", runs=False)
    (check,) = [each for each in DOCTOR.checks(settings, running) if each.name == "mapping"]
    notice, *_ = check.find()
    assert (notice.level, "preset tasmota: the rules and commands of this file count" in notice.found) == (
        "warning",
        True,
    )


def test_a_preset_of_a_person_has_none_of_the_commands_of_a_later_one(tmp_path: Path) -> None:
    code, told = checked(tmp_path / "adapter.toml", HEAD + KITCHEN + 'obeys = "reduce"\n' + RULE)
    assert (code, "preset tasmota has no command reduce; it has none" in told) == (2, True)
