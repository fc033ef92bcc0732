"""How long a street lasts without its line, by its own controller: without a utility, on the page, and as metrics."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from commonwatt.energy.hours_left import HoursLeft
from commonwatt.town.town import Function
from gateway.page.sections import town
from gateway.shown.lasting import EVERY_S, TURN_S
from gateway.shown.metrics import Figures, make_registry
from gateway.shown.past import KEPT_H
from harness.worlds.gateway import CAPACITY
from harness.worlds.street import SUN_W, USE_W, Street
from tests.unit.gateway.conftest import ISLAND

FULL_H = CAPACITY / 1000 / USE_W  # hours that a full battery lasts


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    it = Street(tmp_path / "gateway.db")
    yield it
    it.store.close()


def told(street: Street, turns: int = 5) -> HoursLeft:
    found = street.turns(turns)
    assert isinstance(found, HoursLeft), found
    return found


def metrics(street: Street) -> dict[tuple[str, str], float]:
    registry = make_registry(street.controller, lambda: Figures(stores={"r001": street.hosted.figures}))
    return {
        (sample.labels["which"], sample.labels["end"]): sample.value / 3600
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "commonwatt_gateway_dark_after_seconds"
    }


def test_a_street_without_a_utility_tells_hours(street: Street) -> None:
    street.write(2, sun_w=0)
    street.levels(80)
    found = told(street)
    # At full use to the end, and reduced to 80 % all the time.
    assert 0.8 * FULL_H < (found.half.middle or 0) < 0.8 * FULL_H / 0.8
    assert found.first.least < found.first.low < found.first.middle < found.first.high  # type: ignore[operator]
    assert found.reasons == ()


def test_the_sun_of_past_days_makes_it_longer_and_a_dark_last_day_less_long(tmp_path: Path) -> None:
    def hours(name: str, *last: int) -> float:
        street = Street(tmp_path / name)
        street.write(2, sun_w=SUN_W, until=street.now // 86_400 * 86_400 - 86_400)
        street.write(1, sun_w=last[0], until=street.now // 86_400 * 86_400)
        street.levels(70)
        found = told(street, 20).half.middle
        return 72.0 if found is None else found

    usual, dark = hours("usual", SUN_W), hours("dark", SUN_W // 3)
    assert 0.7 * FULL_H < dark < usual


def test_missing_levels_widen_it_to_a_range_with_its_reason(street: Street) -> None:
    street.write(2, sun_w=0)
    street.levels(60)
    sure = told(street)
    street.begin()
    street.levels(60, without=2)
    found = told(street)
    assert found.reasons == ("the level of 2 of 10 batteries is not known",)
    assert found.half.middle == pytest.approx(sure.half.middle, rel=0.02)
    assert (found.first.low, found.first.least) == (0, 0), "a battery that is not known may be empty"
    assert (sure.all.high or 0) < (found.all.high or 0), "and it may be full"
    street.known = {}
    street.now += 301
    assert told(street, EVERY_S // TURN_S).reasons == ("the level of 10 of 10 batteries is not known",), "all are old"


def test_without_readings_the_use_is_the_average_and_there_is_no_sun(street: Street) -> None:
    street.levels(50)
    found = told(street)
    assert found.reasons == ("no day of readings yet: average use, no sun",)
    # A battery stores a day of average use.
    assert 12 < (found.half.middle or 0) < 12 / 0.8
    street.now += EVERY_S
    street.write(0.5, use_w=300)
    street.begin()
    street.levels(50)
    assert told(street) == replace(found, at=street.now - 20), "half a day is not enough"


def test_places_without_readings_are_counted(street: Street) -> None:
    last = street.meters.pop(10)
    street.new_core()
    street.write(2)
    street.meters[10] = last
    street.begin()
    street.levels(50)
    assert told(street).reasons == ("no day of readings of 1 of 10 places yet: average use, no sun",)


def test_a_restart_reads_the_past_again_and_so_do_changed_meters(tmp_path: Path) -> None:
    street = Street(tmp_path / "gateway.db", 2)
    street.write(28, sun_w=0)
    street.levels(80)
    before = told(street, KEPT_H // 24 + 1)
    street.begin()
    street.levels(80)
    after = told(street, KEPT_H // 24 + 1)
    assert after.half.middle == pytest.approx(before.half.middle, rel=0.05)
    past = street.lasting._pasts["r001"]
    assert np.isfinite(past._power).mean() > 0.99, "all weeks"
    street.controller.register("r001", dict(street.meters))
    street.turns()
    assert np.isfinite(street.lasting._pasts["r001"]._power).mean() < 0.2, "it has begun again"


def test_each_finished_hour_is_added_when_its_readings_have_come(street: Street) -> None:
    street.write(2, sun_w=0)
    street.levels(80)
    told(street, 40)

    def known() -> int:
        return int(np.isfinite(street.lasting._pasts["r001"]._power[0]).sum())

    before = known()
    street.now += 2 * 3600
    street.turns()
    assert known() == before
    street.write(2 / 24, sun_w=0, until=street.now // 3600 * 3600)
    street.now += 3600
    street.turns()
    assert known() == before + 2 * 10, "also what came late"


def test_after_a_clock_that_was_ahead_for_days_all_is_read_again(street: Street) -> None:
    street.write(2, sun_w=0)
    street.levels(80)
    begun = street.now
    told(street)
    past = street.lasting._pasts["r001"]
    hours = past.next(street.core.now + 40 * 86_400)
    past.read(street.store, hours)
    assert past.end > begun // 3600 + 200
    while hours := past.next(street.core.now):
        past.read(street.store, hours)
    assert past.end == begun // 3600
    assert past.ahead(begun)[1].all()


def test_homes_without_a_battery_are_dark_at_once_and_without_homes_there_is_no_figure(tmp_path: Path) -> None:
    street = Street(tmp_path / "gateway.db", 2)
    street.meters = {meter: one for meter, one in street.meters.items() if meter > 1000}
    street.begin()
    found = told(street)
    assert (found.first.high, found.all.high) == (0, 0), "not more than 72 h, though nothing was read"
    street.meters = {}
    street.begin()
    assert street.turns() == "no home is registered"


def test_many_places_are_read_a_few_hours_at_a_time(tmp_path: Path) -> None:
    street = Street(tmp_path / "gateway.db", 80)
    street.write(2)
    street.levels(80)
    assert street.turns(7) == "the readings of the last day are being read"
    assert told(street, 1).reasons == ()


def test_it_is_projected_every_five_minutes(street: Street) -> None:
    street.levels(80)
    first = told(street)
    assert told(street, EVERY_S // TURN_S - 5) is first
    assert told(street, 1).at == first.at + EVERY_S


def test_nothing_is_told_while_another_controller_manages_or_the_time_is_not_known(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    street.levels(80)
    told(street)
    street.known = {}  # a level has the time of its meter
    street.forget_time()
    assert street.turns() == "the time is not known"
    monkeypatch.setattr(type(street.core.manager.epochs), "commands", False)
    assert street.turns() == "another controller manages the microgrid"
    assert metrics(street) == {}


def test_a_failure_is_logged_once_and_shown_and_ends(
    street: Street, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    street.levels(80)
    with monkeypatch.context() as broken, caplog.at_level(logging.ERROR):
        broken.setattr("gateway.shown.lasting.lasts", lambda *_: 1 // 0)
        found = street.turns(9)
        assert len(caplog.records) == 1
    assert isinstance(found, str)
    assert "division" in found
    assert found in unescape(town(street.shown()))
    told(street, 1)


def test_page_status_and_metrics_show_it(street: Street) -> None:
    street.write(2, sun_w=0)
    street.levels(60, without=1)
    found = told(street)
    view = street.shown()
    page = town(view)
    assert f"If the line failed now: first home dark after {found.first.words}, half after {found.half.words}" in page
    assert f"without sharing after {found.first.alone} h" in page
    assert "Less sure: the level of 1 of 10 batteries is not known." in page
    status = json.loads(json.dumps(view))["hours_left"]
    assert status["half"]["middle"] == found.half.middle
    assert status["reasons"] == list(found.reasons)
    assert metrics(street)["half", "middle"] == found.half.middle
    assert len(metrics(street)) == 3 * 5


def test_more_hours_than_are_looked_ahead_are_told_as_more(street: Street) -> None:
    street.write(2, use_w=240, sun_w=SUN_W)
    street.levels(90)
    assert told(street).first.middle is None
    assert "first home dark after more than 72 h" in town(street.shown())
    assert metrics(street)["first", "middle"] == 72


def test_in_an_island_the_same_figure_counts_from_now(street: Street) -> None:
    boundary = street.meters[1001].model_copy(update={"id": 4001, "function": Function.BOUNDARY, "location": "feeder"})
    street.meters[4001] = boundary
    street.write(2, sun_w=0)
    street.begin()
    street.introduce(4001, minimum=None, bits=ISLAND, cmd="get")
    street.levels(60)
    found = told(street)
    assert found.reasons == ()
    assert f"From now on, without the line: first home dark after {found.first.words}" in town(street.shown())
