"""Which reported times a meter accepts, and the correction."""

import pytest

from commonwatt.device.reported_time import AHEAD_TOLERANCE_S, TOLERANCE_S, Reported, ReportedTime
from commonwatt.model.time.now import Trust

NOW = 1_782_000_000.0


@pytest.mark.parametrize(
    ("behind_s", "asked_s_ago", "by_s"),
    [
        (0, None, 0),
        (TOLERANCE_S, None, 0),
        (TOLERANCE_S + 1, None, TOLERANCE_S + 1),
        (-3600, None, 0),  # the answer may have travelled for an hour
        (-AHEAD_TOLERANCE_S, 0, 0),
        (-3600, 0, -3600),
        (-3600, 600, -3000),  # no more than is certain
    ],
)
def test_of_a_told_time_what_is_certain_is_taken(behind_s: int, asked_s_ago: int | None, by_s: int) -> None:
    for offset_s in (0, 500):
        since = None if asked_s_ago is None else NOW - asked_s_ago
        told = Reported(int(NOW) + offset_s + behind_s, Trust.NETWORK, since)
        assert ReportedTime().step_s(told, Trust.NONE, offset_s, NOW) == by_s
