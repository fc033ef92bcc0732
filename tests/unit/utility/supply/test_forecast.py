"""The forecast: the same local time of earlier days, and a quantile of its errors."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from commonwatt.model.time.local_time import local_hour, to_local, to_utc
from utility.supply.forecast import days_before, like_day, like_hours, planned_need

ZONE = ZoneInfo("America/New_York")


def epoch(*when: int) -> int:
    return int(datetime(*when, tzinfo=ZONE).timestamp())  # type: ignore[arg-type,misc]


@pytest.mark.parametrize("day", [(2026, 3, 8), (2026, 3, 9), (2026, 11, 1), (2026, 11, 2), (2026, 7, 1)])
def test_forecast_is_of_the_same_local_hour_on_days_of_23_24_and_25_hours(day: tuple[int, int, int]) -> None:
    now = epoch(*day)
    past = np.arange(now // 900 - 34 * 96, now // 900, dtype=np.int64)
    rows = days_before(now, 96, 4, local_hour(past, ZONE), ZONE)
    hours = local_hour(now // 900 + np.arange(96, dtype=np.int64), ZONE)
    for row in rows[1:]:
        # Only the hour that one of the days does not have is another hour's.
        assert (row != hours).sum() <= 4


def test_local_time_and_back() -> None:
    quarters = np.arange(epoch(2026, 1, 1) // 900, epoch(2027, 1, 1) // 900, dtype=np.int64)
    local = to_local(quarters, ZONE)
    for place in range(0, len(quarters), 97):
        wall = datetime.fromtimestamp(int(quarters[place]) * 900, ZONE).replace(tzinfo=UTC)
        assert int(wall.timestamp()) // 900 == local[place]
    # Only the hour that comes twice has two times.
    assert (to_utc(local, ZONE) != quarters).sum() <= 4


def test_planned_need_of_a_steady_load_is_the_load() -> None:
    edges = np.array([0, 1, 2, 4, 8, 100, 192])
    need = planned_need(epoch(2026, 7, 1), edges, np.full(3264, 7, np.int64), ZONE, 900)
    assert need.tolist() == (7 * np.diff(edges)).tolist()


def test_planned_need_is_more_than_nine_of_ten_days_needed() -> None:
    random = np.random.default_rng(1)
    history = random.integers(0, 1000, 60)[:, None].repeat(96, axis=1).ravel().astype(np.int64)
    now = epoch(2026, 7, 1)
    edges = np.array([0, 96])
    need = int(planned_need(now, edges, history[-3264:], ZONE, 900)[0])
    median = int(planned_need(now, edges, history[-3264:], ZONE, 500)[0])
    assert need > median + 200 * 96


def test_need_that_repeats_each_day_is_forecast_in_its_own_step() -> None:
    now = epoch(2026, 7, 1)
    history = np.full(33 * 96, 1000, np.int64)
    history[4::96] = 9000
    need = planned_need(now, np.arange(9), history, ZONE, 500)
    assert need.tolist() == [1000] * 4 + [9000] + [1000] * 3


def test_last_quarter_corrects_the_first_step_and_fades_in_the_next_ones() -> None:
    history = np.full(33 * 96, 1000, np.int64)
    history[-1] = 5000
    need = planned_need(epoch(2026, 7, 1), np.arange(5), history, ZONE, 500)
    # The first is the last quarter's; what it has more than 95 % of the error is taken from the second.
    assert need[0] == 5000
    assert np.cumsum(need)[1:].tolist() == pytest.approx([9410, 13_840, 18_098], abs=1)


def test_short_history_is_enough() -> None:
    need = planned_need(epoch(2026, 7, 1), np.array([0, 4, 192]), np.array([5], np.int64), ZONE, 900)
    assert need.tolist() == [20, 940]


def test_what_history_lacks_repeats_its_first_day_and_what_is_still_to_come_its_last() -> None:
    history = np.arange(2 * 96, dtype=np.int64)
    rows = days_before(epoch(2026, 7, 1), 96, 4, history, ZONE)
    first, last = history[:96].tolist(), history[96:].tolist()
    assert rows.tolist() == [last, last, first, first]


def test_like_day_is_a_weekday_for_a_weekday() -> None:
    monday, sunday = date(2026, 7, 6), date(2026, 7, 5)
    assert like_day(monday, 1) == date(2026, 7, 3)
    assert like_day(sunday, 1) == date(2026, 7, 4)
    assert like_day(sunday, 2) == date(2026, 6, 28)


def test_like_hours_are_the_same_local_hour_and_skip_a_day_without_it() -> None:
    """# req: A8"""
    assert like_hours(epoch(2026, 7, 6, 14, 40), ZONE)[:2] == [epoch(2026, 7, 3, 14), epoch(2026, 7, 2, 14)]
    # Sunday 8 March 2026 has no 02:00.
    assert like_hours(epoch(2026, 3, 14, 2, 10), ZONE)[0] == epoch(2026, 3, 7, 2)


@pytest.mark.parametrize("permille", [500, 900])
def test_planned_need_is_as_a_plain_reference_computes_it(permille: int) -> None:
    """Days of random needs, in UTC: row ``d`` is what was needed ``d`` days before at the same times."""
    horizon = 192
    history: list[int] = np.random.default_rng(permille).integers(0, 10_000, 40 * 96).tolist()

    def needed(day: int, quarter: int) -> int:
        """The need ``quarter`` quarters after now, ``day`` days ago; what is not over is that of the day before."""
        at = quarter - 96 * day
        return history[at - 96 * (at // 96 + 1)] if at >= 0 else history[at]

    def guess(day: int, quarter: int) -> float:
        """What was forecast on that day: the day before, corrected by the last quarter's error, which fades."""
        off = needed(day, -1) - needed(day + 1, -1)
        return needed(day + (1 if quarter < 96 else 2), quarter) + off * 0.95 ** (quarter + 1)

    wanted = []
    for end in range(1, horizon + 1):
        errors = sorted(sum(needed(d, q) - guess(d, q) for q in range(end)) for d in range(2, 30))
        wanted.append(sum(guess(0, q) for q in range(end)) + errors[28 * permille // 1000])
    change = max(needed(day, 0) - needed(day, -1) for day in range(2, 30))
    wanted[0] = max(wanted[0], needed(0, -1) + change)
    need = planned_need(epoch(2026, 7, 1), np.arange(horizon + 1), np.array(history), ZoneInfo("UTC"), permille)
    assert np.cumsum(need).tolist() == pytest.approx(wanted, abs=1)
