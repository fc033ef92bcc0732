"""``fleet set``: keys that are safe from afar, for chosen controllers, with put-back."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.unit.utility.control.test_changes import answer
from utility.database.database import Database
from utility.fleet.cli import app

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(config: Path, database: Database) -> Run:
    del database  # Its town is registered.

    def typed(*words: str) -> tuple[int, str]:
        done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*words, "--config", str(config)])
        return done.exit_code, " ".join(done.output.split())

    return typed


def test_a_period_is_set_at_those_that_fit_and_put_back(run: Run, database: Database) -> None:
    code, said = run("set", "relay_s", "900", "--where", "kind=residential", "--where", "name=r001", "--yes")
    assert code == 0, said
    assert "1 controller: r001" in said
    answer(database)
    code, said = run("set", "relay_s", "--back")
    assert "change 1: no gateway carried it out" in said or code == 0, said


@pytest.mark.parametrize("key", ["head_end", "certificate", "store", "microgrid"])
def test_what_could_cut_a_controller_off_is_refused_with_what_to_do(run: Run, key: str) -> None:
    code, said = run("set", key, "x", "--yes")
    assert code == 2
    assert f"{key}: is set at the office in site.toml" in said


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("relay_s", "soon"), "seconds are wanted"),
        (("relay_s", "900", "--where", "kind=none"), "no controller fits kind=none"),
        (("relay_s", "900", "--where", "colour=red"), "kind=, release= or name= is wanted"),
        (("strategy", "--back"), "there is no such change"),
    ],
)
def test_a_wrong_word_says_what_is_wanted(run: Run, words: tuple[str, ...], why: str) -> None:
    code, said = run("set", *words, "--yes")
    assert code == 2
    assert why in said
