"""Planted bugs are found in the world that is known to show them; a failing world is cut down to its faults."""

import json
from io import StringIO

import pytest

from harness.world.campaign import Tally, as_test, attempt, shortest
from harness.world.energy.planted import ENERGY_BUGS
from harness.world.found import FOUND, FOUND_IN_CLIQUE, SOONEST, options_of, violation_of
from harness.world.month.planted import MONTH_BUGS
from harness.world.planted import BUGS
from harness.world.story import Violation
from harness.world.world import Options, Run


def test_every_planted_bug_has_a_world_and_every_invariant_one_that_is_found_soon() -> None:
    assert FOUND.keys() == {*BUGS, *ENERGY_BUGS, *FOUND_IN_CLIQUE, *MONTH_BUGS}
    assert SOONEST.keys() == {invariant for invariant, _ in FOUND.values()}


@pytest.mark.parametrize("invariant", SOONEST)
def test_planted_bug_of_each_invariant_is_found(invariant: str) -> None:
    assert found(SOONEST[invariant]) == invariant


@pytest.mark.real  # minutes of a core, no programs of others
@pytest.mark.parametrize("name", FOUND)
def test_every_planted_bug_is_found(name: str) -> None:
    assert found(name) == FOUND[name][0]


def found(name: str) -> str:
    """Return the invariant that a world with a planted bug violates."""
    seed = FOUND[name][1]
    result = violation_of(name, seed)
    assert result is not None, f"seed {seed} no longer finds it: python -m harness.world.found"
    assert str(result).endswith(f"replay: {options_of(name).command(seed)}")
    return result.invariant


# It bites early, and two of its world's five faults are needed.
SEED, BUG, HOURS = 8, "commits of gateways not synced", 0.25


def test_a_failing_world_is_cut_down_to_a_shortest_list_of_faults() -> None:
    options = Options(hours=HOURS, bug=BUG)
    found = attempt(SEED, options)
    assert isinstance(found, Violation)
    least, _ = shortest(found, options)
    assert least.invariant == found.invariant
    assert len(least.struck) < len(found.struck)
    only = Options(hours=HOURS, bug=BUG, only=least.struck)
    again = attempt(SEED, only)
    assert isinstance(again, Violation)
    assert again.what == least.what
    assert str(least).endswith(f"replay: {only.command(SEED)}")
    text = as_test(least, options)
    names = {"attempt": attempt, "Options": Options, "Run": Run}
    exec(text, names)  # what is printed is Python
    assert f"test_world_{SEED}_keeps" in text


def test_a_night_of_worlds_keeps_what_happened_and_what_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    kept = StringIO()
    tally = Tally(2, kept)
    tally.add(Run(7, "", {"crashes": 2}, 3, 4, 5.0, ("crash 1", "crash 2", "rot 1")))
    tally.add(Violation(8, "I1: r001 lost data\nmore", "", "python -m harness.world --seed 8", ("order 1",)))
    assert [json.loads(line) for line in kept.getvalue().splitlines()] == [
        {"seed": 7, "faults": {"crash": 2, "rot": 1}, "found": ""},
        {"seed": 8, "faults": {"order": 1}, "found": "I1: r001 lost data"},
    ]
    assert "replay: python -m harness.world --seed 8" in capsys.readouterr().out
    assert "2 of 2 worlds" in tally.line()
