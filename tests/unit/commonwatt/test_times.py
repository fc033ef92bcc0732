from zoneinfo import ZoneInfo

import pytest

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.times import iso, parse_time

TOWN = ZoneInfo("America/New_York")
NOVEMBER = 1_793_505_600  # 2026-11-01T00:00:00-04:00


@pytest.mark.parametrize(
    "text",
    [
        "1793505600",
        "2026-11-01T00:00:00-04:00",
        "2026-11-01T04:00Z",
        "2026-11-01T04:00:00+00:00",
        " 2026-11-01 04:00:00Z ",
        "2026-11-01",
        "2026-11",
        "2026-11-01T00:00",
    ],
)
def test_one_moment_has_many_forms(text: str) -> None:
    assert parse_time(text, "--from", TOWN) == NOVEMBER
    assert iso(NOVEMBER) == "2026-11-01T04:00:00Z"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no time"),
        ("yesterday", "is no time"),
        ("2026", "a date has hyphens"),
        ("20261101", "a date has hyphens"),
        ("2026-11-31", "is no time"),
        ("2026-W45-1", "is no time"),
        ("-5", "is no time"),
        ("2026-11-01T04:00:00.5Z", "whole seconds"),
        ("9999999999", "between 1970 and 2106"),
        ("1969-12-31", "between 1970 and 2106"),
        ("2027-03-14T02:30", "does not exist in America/New_York"),
        ("2026-11-01T01:30", "exists twice in America/New_York"),
        ("٢٠٢٦", "is no time"),
    ],
)
def test_what_is_no_moment_is_refused_with_the_options_name(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        parse_time(text, "--from", TOWN)
    assert str(refused.value).startswith("--from: ")


def test_without_a_zone_a_time_needs_its_offset() -> None:
    with pytest.raises(ConfigError, match="--to: 2026-11-01 has no offset from UTC"):
        parse_time("2026-11-01", "--to")


def test_the_refusal_of_an_hour_that_is_there_twice_names_both() -> None:
    with pytest.raises(ConfigError, match=r"2026-11-01T01:30-04:00 or 2026-11-01T01:30-05:00"):
        parse_time("2026-11-01T01:30", "--from", TOWN)
    first, second = (parse_time(f"2026-11-01T01:30-0{hours}:00", "--from", TOWN) for hours in (4, 5))
    assert second - first == 3600
