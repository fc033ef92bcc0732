"""How long a town lasts: projected from levels and usual use, told to people and programs, scored in real islands."""

from collections.abc import Sequence
from dataclasses import replace
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from sqlalchemy import select

from commonwatt.energy.lasting import Band, HoursLeft
from commonwatt.model.records import RecordType
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.clock import Clock
from commonwatt.town.town import Direction, Microgrid, Town
from harness.console import Browser, standing_api, text_of
from harness.surroundings import databases
from harness.surroundings.messages import a_heartbeat
from tests.unit.utility.conftest import NOW
from utility.access.people import Role
from utility.assembly.application import make_app
from utility.database.database import Database
from utility.database.postgres.partitions import make_partitions, month_of
from utility.households.store import AccountHome
from utility.lasting.jobs import TOWN, Lasting, lasting_of
from utility.lasting.rules import (
    NO_HISTORY,
    UNSETTLED,
    Said,
    Score,
    blocks_of,
    class_usual,
    project,
    scored,
    seen,
    summary,
    town_left,
)
from utility.lasting.store import load_used
from utility.readings.tables import compacted
from utility.registry.store.registry import registry_changed
from utility.registry.tables import meter
from utility.statistics.packed import packed
from utility.statistics.series import SERIES, ClassDay
from utility.statistics.store.usage import Scope
from utility.statistics.tables import usage_day, usage_month

UTC = ZoneInfo("UTC")
INCOMING = Direction.INCOMING
TODAY = NOW // 86_400


def said(
    town: Town, permille: Sequence[int | None] = (500, 500), now: EpochSeconds = NOW, **more: object
) -> list[Said]:
    """Return what both gateways say; the second one is silent for an hour."""
    islands = more.pop("is_island", False)
    found = []
    for name, late_s in (("r001", 20), ("r002", 3_600)):
        batteries = [meter.id for meter in town.microgrids[name].meters if meter.battery]
        beat = a_heartbeat(
            time=now - late_s, sharing=dict.fromkeys(batteries, "enough"), levels=permille, strategy="spec", **more
        )
        found.append(Said(name, beat, bool(islands) and name == "r001"))
    return found


def at(database: Database, now: EpochSeconds = NOW) -> Lasting:
    return lasting_of(standing_api(database, now))


def a_day(use_w: int, sun_w: int = 0, unknown: bool = False) -> ClassDay:
    """Return a day of a class that takes all that it uses from the town, and gives all its sun."""
    found = np.zeros((len(SERIES), 96), np.int64)
    found[0], found[2], found[4] = use_w * 250, sun_w * 250, sun_w * 250
    if unknown:
        found[4:, 40:] = -1
    return found


def settle(database: Database, use_w: int) -> None:
    rows = [{"day": TODAY - n, "class_no": 1, "payload": packed(a_day(use_w))} for n in range(1, 10)]
    with database.writes.begin() as connection:
        connection.execute(usage_day.insert(), rows)


@databases.on_both_kinds
def test_a_town_without_history_has_average_use_no_sun_and_says_so(database: Database, town: Town) -> None:
    it = at(database)
    it.look(said(town))
    first = it.left["r001"].first
    # Half of a day's use is 12 hours; with reduced use and turns it lasts somewhat longer.
    assert first.low is not None
    assert first.middle is not None
    assert 11 < first.low <= first.middle < 16
    assert it.left["r001"].reasons == (NO_HISTORY,)
    assert it.left["r002"].reasons == (NO_HISTORY, "its gateway last reported 60 min ago")
    assert it.left[TOWN].reasons == ["not all is known of 2 of 2 microgrids"]
    it.look([])
    assert it.left["r001"].reasons[-1] == "its gateway has never reported"


def test_use_and_shape_come_from_the_statistics(database: Database, town: Town) -> None:
    settle(database, use_w=8_000)
    account = next(m.account for m in town.microgrids["r001"].meters if m.battery)
    row: dict[str, object] = dict.fromkeys((c.name for c in usage_month.c if not c.nullable), 0)
    # 2,400 W for a day, by two meters with 96 quarter-hours each.
    row |= {"used": 2_400 * 24_000, "settled": 192, "month": 12 * 2027, "scope": int(Scope.ACCOUNT), "payload": b""}
    with database.writes.begin() as connection:
        connection.execute(usage_month.insert(), [row | {"subject": account}])
    it = at(database)
    it.look(said(town))
    (block,) = it._blocks
    uses = block.usual.use.mean(axis=0).ravel().tolist()
    capacity = next(m.battery.capacity for m in town.microgrids["r001"].meters if m.battery)
    assert uses == pytest.approx([2_400, *[capacity / 24_000] * 3])
    assert it.left["r001"].reasons == ()


def test_a_level_that_is_not_known_makes_the_range_wider(database: Database, town: Town) -> None:
    settle(database, use_w=8_000)
    it = at(database)
    it.look(said(town))
    known = it.left["r001"].all
    it.look(said(town, (500, None)))
    assert it.left["r001"].reasons == ("1 battery level not known",)
    wider = it.left["r001"].all
    assert None not in (known.low, known.high, wider.low, wider.high)
    assert wider.low < known.low  # type: ignore[operator]
    assert wider.high > known.high  # type: ignore[operator]


def test_usual_use_is_the_mean_of_what_is_known_of_a_class() -> None:
    days = {TODAY - 2: a_day(1_000, 500), TODAY - 1: a_day(3_000, 250), TODAY: a_day(9_000, unknown=True)}
    found = class_usual(days, 1_000, UTC)
    # Of the last day 40 quarter-hours are known, and the very first has no level before it.
    assert found.use[:24].mean() == pytest.approx(1, abs=0.5)
    assert found.last[1] < 1, "less sun than usual"
    assert class_usual({}, 1_000, UTC).why == NO_HISTORY
    steady = class_usual({TODAY - n: a_day(1_000, 500) for n in range(9)}, 1_000_000, UTC)
    assert steady.use == pytest.approx(np.ones(48))
    assert steady.sun == pytest.approx(np.full(24, 500 / 1_000_000))
    assert steady.last == pytest.approx([1, 1])


def test_todays_power_counts_beside_the_usual_one(database: Database, town: Town) -> None:
    settle(database, use_w=8_000)
    power = {"sun_w": 0, "import_w": 0, "export_w": 0}
    first = {}
    for use_w in (1_000, 4_000):
        it = at(database)
        for minute in range(0, 120, 10):
            end = NOW + 60 * minute
            it.look(said(town, now=end, power=power | {"end": end - 40, "use_w": use_w}))
        first[use_w] = it.left["r001"].all.middle
    assert first[4_000] is not None
    assert first[1_000] is None or first[1_000] > first[4_000]


def test_use_of_twice_the_usual_for_half_an_hour_is_said_with_the_hours_if_it_goes_on(
    database: Database, town: Town
) -> None:
    settle(database, use_w=8_000)
    it = at(database)
    it.look(said(town))
    usual_w = it._blocks[0].usual.use.mean(axis=0).sum(axis=1)[0]
    power = {"sun_w": 0, "import_w": 0, "export_w": 0, "use_w": int(3 * usual_w)}
    for minute in range(0, 31, 5):
        assert it.left["r001"].as_now is None, f"minute {minute}"
        end = NOW + 60 * minute
        it.look(said(town, now=end + 20, power=power | {"end": end}, is_island=minute > 10))
    left = it.left["r001"]
    assert left.as_now is not None
    assert left.as_now.middle == pytest.approx((left.first.alone or 0) / 3, abs=1.5)
    assert "it has used more than 2 times the usual for 31 min" in left.reasons
    assert it.left["r002"].as_now is None, "its gateway is silent"
    end = NOW + 60 * 35
    it.look(said(town, now=end + 20, power=power | {"end": end, "use_w": int(usual_w)}))
    assert it.left["r001"].as_now is None


@databases.on_both_kinds
def test_the_past_of_a_microgrid_is_read_from_its_readings_once_a_day(database: Database, town: Town) -> None:
    hour = NOW // 3600
    first = 4 * (hour - 8 * 24)
    empty = dict.fromkeys((c.name for c in compacted.c if not c.nullable), 0) | {"exact": 60, "payload": b""}
    with database.writes.begin() as connection:
        make_partitions(connection, {month_of(first), month_of(4 * hour)})
        of = select(meter.c.no, meter.c.direction, meter.c.battery_capacity, meter.c.function)
        for its in connection.execute(of.where(meter.c.microgrid == "r001")).all():
            is_boundary = its.function == "boundary"
            taken = 900 if is_boundary else 500 if its.direction == "incoming" else 100
            kinds: dict[RecordType, tuple[int | None, int]] = {RecordType.THROUGH: (taken, 0)}
            if its.battery_capacity:
                # 300 generated, and 50 charged.
                kinds |= {RecordType.GENERATION: (300, 0), RecordType.STORED: (None, 50)}
            for kind, (total, level) in kinds.items():
                rows = [
                    {"quarter": q, "total": total, "last_reading": level * (q - first) if level else None}
                    for q in range(first, 4 * hour)
                ]
                key = {"meter_no": its.no, "record_type": int(kind)}
                connection.execute(compacted.insert(), [empty | key | row for row in rows])
    used = database.read(load_used, "r001", hour)
    assert len(used) == 28 * 24
    homes = len([m for m in town.microgrids["r001"].meters if m.battery])
    assert used[-7 * 24 :].tolist() == [4 * homes * (500 - 100 + 300 - 50)] * (7 * 24)
    assert np.isnan(used[: 20 * 24 + 1]).all()
    assert np.isnan(database.read(load_used, "r002", hour)).all()
    it = at(database)
    assert "not known yet" in it.told("r001")["how_good"]
    it.look(said(town))
    assert "In 200 test cuts" in it.told("r001")["how_good"]
    assert "not known yet" in it.told("r002")["how_good"]
    assert it._read == {"r001": NOW, "r002": NOW}
    it.look(said(town))
    assert it._read == {"r001": NOW, "r002": NOW}


def test_homes_without_a_battery_are_dark_at_once_and_a_microgrid_without_homes_is_left_out(town: Town) -> None:
    def of(name: str, *chosen: bool) -> Microgrid:
        meters = town.microgrids[name].meters
        return replace(town.microgrids[name], meters=tuple(m for m in meters if (m.direction is INCOMING) in chosen))

    blocks = blocks_of({"r001": of("r001", True), "r002": of("r002", False)}, {}, {"residential": UNSETTLED})
    (left,) = [project(block, seen(block, {}, {}, NOW, UTC), NOW, UTC) for block in blocks]
    assert list(left) == ["r001"]
    assert (left["r001"].first.high, left["r001"].all.high) == (0, 0)
    assert blocks_of({"r002": of("r002", False)}, {}, {"residential": UNSETTLED}) == []


def test_a_battery_that_is_new_in_the_statistics_is_no_negative_use() -> None:
    day = a_day(1_000)
    day[5, 40:] = 10**9
    assert class_usual({TODAY - 1: day}, 1_000, UTC).use.min() >= 0


def test_the_town_is_dark_by_its_microgrids() -> None:
    def left(*hours: float | None) -> HoursLeft:
        first, half, last = (Band(*[each] * 5) for each in hours)
        return HoursLeft(at=NOW, first=first, half=half, all=last)

    found = {"a": left(2, 4, 6), "b": left(3, 8, None), "c": left(1, 30, 40)}
    town = town_left(found, np.array([10, 100, 10]), NOW)
    assert (town.first.middle, town.half.middle, town.all.middle) == (1, 8, None)
    assert town_left(found, np.array([100, 10, 10]), NOW).half.middle == 4


def test_an_island_is_scored_once_over_restarts_and_by_the_active_utility_alone(database: Database, town: Town) -> None:
    it = at(database)
    it.look(said(town))
    it.score(said(town))
    assert it.scores == []
    it.score(said(town, is_island=True))
    projected = it.left["r001"].first.middle
    assert [(one.microgrid, one.at, one.band.middle, one.lasted) for one in it.scores] == [
        ("r001", NOW, projected, None)
    ]
    later = at(database, NOW + 10 * 3_600)  # After a restart, or the other utility.
    later.look(said(town, now=NOW + 10 * 3_600))
    later.score(said(town, (0, 40), NOW + 10 * 3_600, is_island=True))
    (one,) = later.scores
    assert list(one.came) == [10.0, 10.0, None]
    assert one.error_percent == pytest.approx(10 * abs((projected or 0) - 10))
    standby = at(database, NOW + 11 * 3_600)
    standby._api.database.is_active = lambda: False
    standby.score(said(town, (0, 0), NOW + 11 * 3_600, is_island=True))
    database.is_active = lambda: True
    last = at(database, NOW + 12 * 3_600)
    last.score(said(town, (0, 0), NOW + 12 * 3_600))
    last.score(said(town, (0, 0), NOW + 12 * 3_600))
    (one,) = last.scores
    assert (list(one.came), one.lasted) == ([10.0, 10.0, None], 12.0), "an end does not say that all were dark"
    assert "In 1 real island of this town half were off by less than" in last.told()["how_good"]


def test_levels_that_are_not_known_do_not_tell_that_all_are_empty_nor_an_earlier_clock_hours_below_zero() -> None:
    begun = Score(microgrid="r001", at=NOW, projected=[Band(8, 10, 12, 9, 3)] * 3)
    for now in (NOW + 3_600, NOW - 3_600):
        beat = a_heartbeat(time=now, sharing=dict.fromkeys((1, 2, 3), "enough"), levels=(0, None, None))
        (one,) = scored([begun], [Said("r001", beat, True)], {}, now)
        assert list(one.came) == [max(0, (now - NOW) / 3_600), None, None]


def test_what_an_islands_end_says_of_its_projection() -> None:
    it = Score(microgrid="r001", at=NOW, projected=[Band(8, 10, 12, 9, 3)] * 3)
    assert it.error_percent is None, "it goes on"
    assert replace(it, lasted=0.5).error_percent is None, "too short to tell"
    assert (replace(it, lasted=20.0).error_percent, replace(it, lasted=20.0).is_held) == (50, False)
    # As in the test cuts: of an hour at least, and an end of the band is rounded.
    empty = replace(it, projected=[Band(0, 0, 0, 0, 0)] * 3, came=(0.0, 0.02, 0.02), lasted=0.0)
    assert (empty.error_percent, empty.is_held) == (0, True), "the utility sees it when a battery is empty"
    assert replace(empty, came=(0.02, None, None)).error_percent == pytest.approx(2)
    found = [replace(it, came=(hours, None, None), lasted=20.0) for hours in (8.0, 12.5, 10.0)]
    assert [one.error_percent for one in found] == [25, 20, 0]
    assert [one.is_held for one in found] == [True, False, True]
    assert summary(found) == (
        "In 3 real islands of this town half were off by less than 20 %, and the range held 67 % of the time."
    )


def test_it_is_told_on_pages_and_in_the_api(database: Database, town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    api = standing_api(database, NOW)
    app = make_app(api)
    operator = Browser(app, Role.OPERATOR)
    assert "Not projected: the first" in text_of(operator.get("/console/lasting"))
    it = lasting_of(api)
    it.look(said(town))
    it.score(said(town, is_island=True))
    told = operator.get("/lasting").json()
    assert list(told["microgrids"]) == ["r001", "r002"]
    assert told["microgrids"]["r001"]["first"] == it.left["r001"].first._asdict()
    assert [one["microgrid"] for one in told["islands"]] == ["r001"]
    words = it.left["r001"].first.words
    for path in ("/console/town", "/console/microgrids/r001", "/console/lasting"):
        html = operator.get(path)
        assert '<p><a href="/console/lasting">' in html.text or path == "/console/lasting"
        page = text_of(html)
        assert it.left[TOWN].first.words in page or words in page, path
        assert page.count(it.told()["how_good"]) == (path == "/console/lasting"), "once, behind a link"
    assert f"Less sure than usual: {NO_HISTORY}." in text_of(operator.get("/console/microgrids/r001"))
    assert "it goes on" in page
    account = next(m.account for m in town.microgrids["r001"].meters if m.battery)
    resident = Browser(app, Role.RESIDENT, name="her", account=account)
    monkeypatch.setattr(AccountHome, "places", lambda *_: [("r001", "house 1"), ("r001", "house 2")])
    assert "of your street is dark" not in text_of(resident.get("/console/home")), "two homes: each knows the other's"
    monkeypatch.setattr("utility.lasting.jobs.LEAST_HOMES", 2)
    it.look(said(town))
    home = text_of(resident.get("/console/home"))
    assert home.index("until your home is dark") < home.index("until the first home of your street")
    assert home.count("until the first home of your street is dark") == 1, "once for two places of one street"
    assert f"How good such figures are {it.told()['how_good']}" in home
    assert "If the power fails now projected " in home


def test_metrics_name_the_microgrids(database: Database, town: Town) -> None:
    api = standing_api(database, NOW)
    it = lasting_of(api)
    it.look(said(town))
    value = api.metrics.registry.get_sample_value
    wanted = {"microgrid": "r001", "dark": "first"}
    assert value("commonwatt_utility_left_seconds", wanted) == 3600 * (it.left["r001"].first.middle or 72)


def test_what_is_usual_is_read_again_when_the_registry_or_the_hour_changes(database: Database, town: Town) -> None:
    clock = Clock(origin=NOW, monotonic_origin=0, speed=0)
    it = lasting_of(standing_api(database, NOW, clock=clock))
    it.look(said(town))
    before = it._blocks
    it.look(said(town))
    assert it._blocks is before
    with database.writes.begin() as connection:
        registry_changed(connection)
    it.look(said(town))
    assert it._blocks is not before
