"""``commonwatt config check`` on an adapter's file: faults of presets, with their line."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from commonwatt.cli.main import config_app

HEAD = '[adapter]\nmicrogrid = "r001"\n'
KITCHEN = '[[meter]]\nid = 77001\ntoken = "t"\nsource = "kitchen"\npreset = "tasmota"\n'
CELLAR = KITCHEN.replace("77001", "77002").replace("tasmota", "tasmotta")
RULE = '[[rule]]\npreset = "tasmota"\ntopic = "t"\nformat = "plain"\nkind = "register"\nunit = "kWh"\n'


def checked(path: Path, text: str) -> tuple[int, str]:
    path.write_text(text)
    done = CliRunner().invoke(config_app, ["check", str(path)])
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (KITCHEN + CELLAR, "line 12: meter.1.preset: [[meter]] 77002: no preset 'tasmotta'; there are: "),
        (KITCHEN + RULE, "line 9: rule.0.preset: [[rule]] of preset tasmota: Commonwatt has one of this name"),
        (
            KITCHEN.replace("kitchen", "flat #2"),
            "line 6: meter.0.source: [[meter]] 77001: with this source and channel",
        ),
        (KITCHEN + 'reduce = { topic = "cmnd/+/POWER", on = "0", off = "1" }\n', "line 8: meter.0.reduce.topic: "),
        (
            KITCHEN.replace("kitchen", "+") + 'reduce = { topic = "{device}", on = "0", off = "1" }\n',
            "line 3: meter.0: ",
        ),
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
