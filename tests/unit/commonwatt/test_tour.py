"""The tour of the demonstration: its commands are accepted as they are printed, its steps run until all is well."""

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commonwatt.cli.main import make_app
from commonwatt.demo.layout import STARTS_AT
from commonwatt.demo.stage import Play, Say
from commonwatt.demo.tour import ORDERS, STAGE, STEPS, Step, Tour, order
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.times import parse_time
from harness.past.__main__ import of_demonstration

DAY_S = 86_400


def test_the_release_is_of_the_day_after_the_one_in_the_past_and_ends_in_the_demonstration() -> None:
    line = next(line for step in STEPS for line in step.do if "research release" in line)
    words = shlex.split(line)
    start, end = (parse_time(words[words.index(option) + 1], option) for option in ("--from", "--to"))
    past = of_demonstration(Path("unused")).release
    assert past is not None
    assert start == past[1], "a period is released once"
    assert end == start + DAY_S
    assert start < STARTS_AT < end < STARTS_AT + DAY_S


def test_the_check_code_is_one_word_of_the_command_though_it_is_printed_in_groups() -> None:
    line = next(line for step in STEPS for line in step.do if "check_bill.py" in line)
    words = shlex.split(line.replace("CODE", "1f83ea2f 4570e204"))
    assert words[-2:] == ["--code", "1f83ea2f 4570e204"]


@pytest.mark.parametrize("step", [step for step in STEPS if step.words], ids=lambda step: step.id)
def test_the_commands_of_the_steps_exist(step: Step) -> None:
    words = [*step.words.split(), "--for", str(step.for_s), "--config", "missing.toml"]
    assert "missing.toml" in CliRunner().invoke(make_app(), words).output


def test_a_step_runs_once_until_its_time_has_passed_and_the_town_is_well() -> None:
    tour, well = Tour(STEPS), "audit: all readings older than 15 minutes are stored"
    assert tour.handle([], 100, well) == []
    assert tour.handle(["feeder"], 100, well) == [
        Say(what="The feeder of r001 is cut for half an hour.", does=STEPS[0].look, page="/console/microgrids/r001"),
        Play(words="meters feeder dead --for 1800", folder="r001"),
    ]
    assert tour.shown()[0].items() >= {"id": "feeder", "state": "running", "since": 100}.items()
    assert tour.handle(["feeder"], 101, well) == []
    assert tour.handle([], 1899, well) == []
    assert tour.handle([], 1900, well) == [], "the island is not seen yet"
    assert tour.handle([], 1901, "", ["r001"]) == [], "it is one now"
    assert tour.handle([], 1902, "") == [], "it is none, but a reading is late"
    assert tour.handle([], 1903, well, ["r001"]) == [], "it is one again"
    (said,) = tour.handle([], 2500, well, ["r002"])
    assert said == Say(what="Cut a feeder: well again.", does=well, page="/console/microgrids/r001")
    assert tour.shown()[0].items() >= {"state": "well again", "since": 2500}.items()
    assert len(tour.handle(["feeder"], 2501, well)) == 2, "it may be tried again"


def test_the_time_of_a_step_begins_with_the_end_of_its_command() -> None:
    """On a loaded machine the command took longer than the step, which was then "well again" before it began."""
    tour = Tour(STEPS)
    tour.handle(["feeder"], 100, "well")
    assert tour.handle([], 1900, "well", plays=True) == []
    tour.handle([], 1901, "well", ["r001"])
    assert tour.handle([], 3699, "well") == []
    assert len(tour.handle([], 3700, "well")) == 1
    tour.handle(["feeder"], 4000, "well")
    assert tour.handle([], 21_999, "well") == []
    assert len(tour.handle([], 22_000, "well")) == 1, "it was no island"


def test_a_stopped_controller_is_dead_for_its_time_only() -> None:
    tour = Tour(STEPS)
    (said,) = tour.handle(["controller"], 100, "")
    assert isinstance(said, Say)
    assert tour.dead(1899) == {"r001 broker", "r001 gateway"}
    assert tour.dead(1900) == set()
    assert tour.handle([], 1901, "well", ["r001"]) == [], "it is back, and another one still manages r001"
    (said,) = tour.handle([], 5500, "well")
    assert isinstance(said, Say)
    assert said.what == "Stop a controller: well again."


def test_what_cannot_be_ordered_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not the stage of a demonstration that runs"):
        order(tmp_path, "feeder")
    tour = Tour(STEPS)
    tour.handle(["supply"], 100, "")
    (tmp_path / STAGE).write_text(json.dumps({"steps": tour.shown()}))
    (tmp_path / ORDERS).mkdir()
    with pytest.raises(
        ConfigError, match=r"\.\./x: the supervisor of this town does no such step, but feeder, controller"
    ):
        order(tmp_path, "../x")
    with pytest.raises(ConfigError, match="price: the supervisor"):
        order(tmp_path, "price")
    with pytest.raises(ConfigError, match="Supply LOW: this runs already; wait until it is well again"):
        order(tmp_path, "supply")
    assert list((tmp_path / ORDERS).iterdir()) == []
    assert order(tmp_path, "feeder") == "Cut a feeder: the supervisor does it now"
    assert [one.name for one in (tmp_path / ORDERS).iterdir()] == ["feeder"]
