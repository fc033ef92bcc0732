"""What counts as good of a scenario on real processes: islands where feeders died, and none elsewhere."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

import pytest

from commonwatt.town.conditions import Conditions
from commonwatt.town.scenario import Outage, load
from gateway.control.islanding import Phase
from harness.full_stack.course import Course, Watcher
from tests.unit.scenarios.test_simulation import town

DEAD_S = 3600


def watched(seen: Sequence[tuple[int, Phase]]) -> Course:
    """Return the course of r001, whose gateway says its phase some seconds after the feeder's death."""
    outage = Outage(what="feeder", from_hour=1, for_hours=1, residential_percent=100)
    scenario = load("storm").model_copy(update={"outage": (outage,)})
    conditions = Conditions(scenario=scenario, zone=ZoneInfo("UTC"), seed=1)
    watcher = Watcher(town(), conditions)
    for island in watcher.course.islands:
        for after_s, phase in seen:
            status = {"time": conditions.begin + 3600 + after_s, "modes": {"phase": phase}}
            watcher.look({f"{island.microgrid} gateway": status})
    watcher.course.drained = True
    return watcher.course


@pytest.mark.parametrize(
    ("seen", "good"),
    [
        ([(10, Phase.ISOLATING), (60, Phase.ISLANDED), (DEAD_S + 700, Phase.CONNECTED)], True),
        ([(10, Phase.CONNECTED), (DEAD_S - 1, Phase.CONNECTED), (DEAD_S + 700, Phase.CONNECTED)], False),
        ([(-20, Phase.CONNECTED), (DEAD_S + 700, Phase.CONNECTED)], True),  # Its controller was dead meanwhile.
        ([(60, Phase.ISLANDED), (DEAD_S + 3000, Phase.CONNECTED)], False),
        ([(60, Phase.ISLANDED), (DEAD_S + 700, Phase.CONNECTED), (DEAD_S + 3000, Phase.ISLANDED)], False),
    ],
)
def test_a_run_is_good_if_islands_were_where_feeders_died_and_returned(
    seen: Sequence[tuple[int, Phase]], good: bool
) -> None:
    course = watched(seen)
    assert course.islands
    assert course.good is good
