"""A failing world is cut down to the faults that it needs, and printed as a test."""

from harness.world.run import attempt
from harness.world.shrink import as_test, shortest
from harness.world.story import Violation
from harness.world.world import Options, Run

SEED, BUG = 7, "a join that adds"


def test_a_failing_world_is_cut_down_to_a_shortest_list_of_faults() -> None:
    options = Options(hours=1.0, bug=BUG)
    found = attempt(SEED, options)
    assert isinstance(found, Violation)
    least, _ = shortest(found, options)
    assert least.invariant == found.invariant
    assert len(least.struck) < len(found.struck)
    only = Options(hours=1.0, bug=BUG, only=least.struck)
    again = attempt(SEED, only)
    assert isinstance(again, Violation)
    assert again.what == least.what
    assert str(least).endswith(f"replay: {only.command(SEED)}")
    text = as_test(least, options)
    names = {"attempt": attempt, "Options": Options, "Run": Run}
    exec(text, names)  # what is printed is Python
    assert f"test_world_{SEED}_keeps" in text
