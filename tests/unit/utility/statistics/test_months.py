"""Local months, quarters, years and five years; a load shape's hours are the town's."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from utility.statistics.months import Span, columns_of, month_number, months_of_day, span_around, span_text

NEW_YORK = ZoneInfo("America/New_York")


@pytest.mark.parametrize(
    ("month", "quarters"), [("2026-03", 2972), ("2026-11", 2884), ("2028-02", 2784), ("2026-10", 2976)]
)
def test_a_month_has_the_quarters_of_its_local_days(month: str, quarters: int) -> None:
    columns = columns_of(month_number(month), NEW_YORK)
    assert len(columns.cells) == quarters == columns.until - columns.first
    hours = [datetime.fromtimestamp(q * 900, UTC).astimezone(NEW_YORK) for q in range(columns.first, columns.until)]
    assert columns.cells.tolist() == [h.hour + 24 * (h.weekday() >= 5) for h in hours]
    # The Sunday on which the clocks change has 92 or 100.
    if month == "2026-03":
        assert np.bincount(columns.cells)[24 + 2] == np.bincount(columns.cells)[24 + 3] - 4
    if month == "2026-11":
        assert np.bincount(columns.cells)[24 + 1] == np.bincount(columns.cells)[24 + 3] + 4


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "UTC"])
def test_every_month_has_a_day_with_the_hours_of_a_load_shape(zone: str) -> None:
    for month in range(month_number("2025-01"), month_number("2038-01")):
        begin = columns_of(month, ZoneInfo(zone)).plain_day * 900
        hours = [datetime.fromtimestamp(begin + 3600 * hour, ZoneInfo(zone)) for hour in range(24)]
        assert [(h.hour, h.minute) for h in hours] == [(hour, 0) for hour in range(24)], month


def test_spans_hold_a_month_and_have_names() -> None:
    month = month_number("2026-11")
    names = {span: span_text(span_around(month, span), span) for span in Span}
    assert names == {"month": "2026-11", "quarter": "2026-Q4", "year": "2026", "five_years": "2021-12 to 2026-11"}
    assert all(month in span_around(month, span) and len(span_around(month, span)) == span.months for span in Span)


def test_a_day_of_utc_at_a_months_edge_is_in_both_months() -> None:
    day = (datetime(2026, 11, 1, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days
    assert [len(months_of_day(each, NEW_YORK)) for each in (day - 1, day, day + 1)] == [1, 2, 1]
