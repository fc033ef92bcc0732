"""Every interleaving of a small world; and that a guard taken away is noticed there.

``make test`` has the bound of most interleavings in a second of a core: a copy of a message comes late, perhaps after
the meter moved to another gateway. In those with crashes there are a third as many: ``make test-real`` has the one in
which a message is lost, too. ``make soak`` has all bounds and guards.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from harness.world.exhaustive.__main__ import Explorer
from harness.world.exhaustive.search import BrokenError
from harness.world.exhaustive.world import Bounds
from harness.world.planted import BUGS

ALL = os.environ.get("SMALL_WORLDS") == "all"  # ``make soak``


@pytest.fixture(scope="module")
def explorer() -> Iterator[Explorer]:
    """What its parts do in one world, they do in the others."""
    with closing(Explorer(Bounds())) as explorer:
        yield explorer


@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(losses=0, duplications=1, crashes=0, minutes=2),
        pytest.param(Bounds(losses=1, duplications=0, crashes=1, minutes=1), marks=pytest.mark.real),
        Bounds(losses=2, duplications=0, crashes=0, minutes=2),
        Bounds(losses=0, duplications=1, crashes=0, minutes=3),
        Bounds(losses=0, duplications=0, crashes=1, minutes=2),
        Bounds(losses=1, duplications=1, crashes=0, minutes=2),
    ][: None if ALL else 2],
    ids=str,
)
def test_whatever_happens_everything_arrives_once(
    explorer: Explorer, bounds: Bounds, record_property: Callable[[str, object], None]
) -> None:
    seen = explorer.within(bounds).explore()
    record_property("states", seen.states)
    assert len(seen.healed) > 50  # ends that differ, from each of which everything arrived
    assert seen.obeyed > 0  # the command was carried out in some of them


def test_the_shortcut_loses_no_end() -> None:
    bounds = Bounds(losses=1, duplications=0, crashes=0, minutes=2 if ALL else 1)
    with closing(Explorer(bounds)) as short, closing(Explorer(bounds, every_order=True)) as long:
        seen, all_seen = short.explore(), long.explore()
    assert seen.states < all_seen.states
    assert (len(seen.healed), seen.parts) == (len(all_seen.healed), all_seen.parts)


@pytest.mark.parametrize(
    ("bug", "bounds", "found"),
    [
        ("acknowledge before commit", Bounds(losses=0, duplications=0), "I1"),
        ("no fence", Bounds(losses=0, duplications=0, crashes=0), "I8"),
        ("a join that adds", Bounds(losses=1, duplications=0, crashes=0), "I2|I6"),
        ("commands obeyed after their end", Bounds(losses=1, duplications=1, crashes=0), "I7"),
        ("states without an end", Bounds(losses=0, duplications=0, crashes=0), "I6|I7"),
    ][: None if ALL else 2],
)
def test_a_guard_taken_away_is_noticed(bug: str, bounds: Bounds, found: str) -> None:
    with BUGS[bug].plant(), closing(Explorer(bounds)) as explorer, pytest.raises(BrokenError, match=found):
        explorer.explore()


@pytest.mark.parametrize("part", [1, 3][: None if ALL else 1], ids=["gateway", "utility"][: None if ALL else 1])
def test_commits_that_are_not_synced_are_noticed(part: int) -> None:
    with closing(Explorer(Bounds(losses=0, duplications=0, crashes=1, minutes=3))) as explorer:
        explorer.world.parts[part].unsynced = True
        with pytest.raises(BrokenError, match=r"I1|I2"):
            explorer.explore()
