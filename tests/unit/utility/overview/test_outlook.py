"""The price now, the dear hours of a day, and tomorrow's need as the town's page tells them."""

from datetime import datetime
from zoneinfo import ZoneInfo

from utility.overview.outlook import dear_spans, need_tomorrow, price_now
from utility.tariffs.tariff import parse_tariff

ZONE = ZoneInfo("America/New_York")
TARIFF = """
[tariff]
name = "town"
effective = "2026-01-01"
timezone = "America/New_York"
base = "15.00"
text = "All homes"
[policy]
name = "spec"
[[period]]
name = "peak"
import = "0.32"
credit = "0.32"
[[period]]
name = "off-peak"
import = "0.18"
credit = "0.18"
[[hours]]
period = "off-peak"
days = ["every"]
from = "00:00"
until = "15:00"
[[hours]]
period = "peak"
days = ["every"]
from = "15:00"
until = "19:00"
[[hours]]
period = "off-peak"
days = ["every"]
from = "19:00"
until = "24:00"
"""


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp())


def test_the_price_now_has_its_period_and_the_next_price() -> None:
    found = price_now([parse_tariff(TARIFF)], at("2026-11-24T14:10"))
    assert found is not None
    assert (found.period, str(found.dollars)) == ("off-peak", "0.18")
    assert found.until == at("2026-11-24T15:00")
    assert price_now([parse_tariff(TARIFF)], at("2025-11-24T14:10")) is None, "the tariff begins later"


def test_the_dear_hours_are_those_of_the_highest_price_alone() -> None:
    begin = at("2026-11-01T00:00") // 900  # a day of 25 hours
    assert dear_spans([parse_tariff(TARIFF)], begin, begin + 100) == [(at("2026-11-01T15:00"), at("2026-11-01T19:00"))]
    flat = parse_tariff(TARIFF.replace('"0.32"', '"0.18"'))
    assert dear_spans([flat], begin, begin + 100) == [], "one price all day has no dear hours"


def test_tomorrows_need_is_that_of_whole_days_of_its_kind() -> None:
    friday = at("2026-11-27T12:00")  # tomorrow is a Saturday
    net = dict.fromkeys(range(at("2026-11-21T00:00") // 900, at("2026-11-22T00:00") // 900), 1)
    net |= dict.fromkeys(range(at("2026-11-15T00:00") // 900, at("2026-11-16T00:00") // 900), 3)
    net |= dict.fromkeys(range(at("2026-11-23T00:00") // 900, friday // 900), 9)
    found = need_tomorrow(net, friday, ZONE)
    assert found is not None
    assert (found.expected, found.least, found.most, found.days) == (96, 96, 288, 2)
    del net[at("2026-11-21T10:00") // 900]
    half = need_tomorrow(net, friday, ZONE)
    assert half is not None
    assert (half.expected, half.days) == (288, 1), "a day that is not whole says nothing"
    assert need_tomorrow({}, friday, ZONE) is None
