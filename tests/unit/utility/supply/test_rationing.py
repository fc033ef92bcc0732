"""Who is limited when the regional supply is short, and how long the plant's battery lasts."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from commonwatt import demo
from commonwatt.model.control import SupplyState
from commonwatt.model.units import QUARTER_S
from commonwatt.protocol.plant_messages import PlantQuarter, PlantReport
from commonwatt.runtime.metric_families import AtEachScrape
from commonwatt.town.loading import load_town
from utility.database.database import Database
from utility.outbox.changes import SawPlant
from utility.outbox.store import write_plant
from utility.supply.buying import PlantSituation
from utility.supply.deciding import plant_lasts_until
from utility.supply.metrics import plant_metrics
from utility.supply.rationing import RATIONING, Priority, RationedMicrogrid, member_of, ration_aces, ration_rangers
from utility.supply.store import supply_view

PUBLIC = RationedMicrogrid(microgrid="p001", priority=Priority.PUBLIC, customers=3, average_w=80_000, demand_w=90_000)
FLATS = RationedMicrogrid(
    microgrid="a001",
    priority=Priority.APARTMENTS,
    customers=300,
    average_w=180_000,
    demand_w=150_000,
    like_hour_w=120_000,
)
HOUSES = RationedMicrogrid(microgrid="r001", priority=Priority.HOUSES, customers=10, average_w=12_000, demand_w=9_000)
MORE = RationedMicrogrid(microgrid="r002", priority=Priority.HOUSES, customers=10, average_w=12_000, demand_w=2_000)
TOWN = (PUBLIC, FLATS, HOUSES, MORE)
ENOUGH_W = 10_000_000
KWH = 10**6
DOCS = Path(__file__).parents[4] / "docs" / "supply.md"


def plant(line_w: int, level: int = 0, power_w: int = 0) -> PlantSituation:
    """A plant with a reserve of 100 MWh, and ``level`` milliwatt-hours above it."""
    reserve = 100_000 * KWH
    capacity = 10 * reserve
    return PlantSituation(
        level=reserve + level,
        capacity=capacity,
        floor=0,
        reserve=reserve,
        power_w=power_w,
        loss_permille=0,
        line_w=line_w,
    )


@pytest.mark.parametrize(
    ("state", "apartments", "houses", "reduce"),
    [
        (SupplyState.NORMAL, None, None, False),
        (SupplyState.LOW, None, None, True),
        (SupplyState.CRITICAL, 60_000, 0, True),
        (SupplyState.EMPTY, 0, 0, True),
    ],
)
def test_aces_limits_by_the_supply_state(
    state: SupplyState, apartments: int | None, houses: int | None, reduce: bool
) -> None:
    """# req: A8, U5"""
    rations = ration_aces(state, TOWN, plant(ENOUGH_W))
    assert [rations[m.microgrid].import_limit_w for m in TOWN] == [None, apartments, houses, houses]
    assert {ration.reduce for ration in rations.values()} == {reduce}


def test_apartments_without_a_like_day_get_half_of_their_average_use() -> None:
    flats = RationedMicrogrid(microgrid="a001", priority=Priority.APARTMENTS, customers=300, average_w=180_000)
    ration = ration_aces(SupplyState.CRITICAL, [flats], plant(0))["a001"]
    assert ration.import_limit_w == 90_000
    assert "no like day" in ration.reason


@pytest.mark.parametrize(
    ("available", "limits"),
    [
        (251_000, [None, None, None, None]),
        (247_000, [None, None, 5_000, 5_000]),
        (240_000, [None, None, 0, 0]),
        (165_000, [None, 75_000, 0, 0]),
        (90_000, [None, 0, 0, 0]),
        (10, [None, 0, 0, 0]),
    ],
)
def test_rangers_serves_strictly_by_class_and_equally_within_one(available: int, limits: list[int | None]) -> None:
    """# req: P5"""
    rations = ration_rangers(SupplyState.NORMAL, TOWN, plant(available))
    assert [rations[m.microgrid].import_limit_w for m in TOWN] == limits


_MEMBERS = st.lists(
    st.builds(
        RationedMicrogrid,
        microgrid=st.uuids().map(str),
        priority=st.sampled_from(Priority),
        customers=st.integers(0, 400),
        average_w=st.integers(0, 10**6),
        demand_w=st.integers(0, 10**6),
        like_hour_w=st.none() | st.integers(0, 10**6),
        limit_w=st.none() | st.integers(0, 10**6),
    ),
    max_size=12,
)
_PLANTS = st.builds(plant, st.integers(0, 10**7), st.integers(-KWH, 10**5 * KWH), st.integers(0, 10**7))


@given(
    name=st.sampled_from(sorted(RATIONING)),
    state=st.sampled_from(SupplyState),
    members=_MEMBERS,
    given=_PLANTS,
)
def test_no_rule_ever_limits_emergency_services_and_every_ration_has_its_reason(
    name: str, state: SupplyState, members: list[RationedMicrogrid], given: PlantSituation
) -> None:
    rations = RATIONING[name](state, members, given)
    assert rations.keys() == {m.microgrid for m in members}
    for member in members:
        ration = rations[member.microgrid]
        assert ration.reason
        if member.priority is Priority.PUBLIC:
            assert ration.import_limit_w is None
        if state is not SupplyState.NORMAL:
            assert ration.reduce


@given(members=_MEMBERS, given=_PLANTS)
def test_rangers_gives_a_lower_class_nothing_while_a_higher_one_is_short(
    members: list[RationedMicrogrid], given: PlantSituation
) -> None:
    rations = ration_rangers(SupplyState.CRITICAL, members, given)
    available = given.line_w + (given.power_w if given.level > given.reserve else 0)

    def served(member: RationedMicrogrid) -> int:
        limit = rations[member.microgrid].import_limit_w
        return member.demand_w if limit is None else min(limit, member.demand_w)

    public = sum(m.demand_w for m in members if m.priority is Priority.PUBLIC)
    others = [m for m in members if m.priority is not Priority.PUBLIC]
    assert sum(map(served, others)) <= max(0, available - public)
    short = [m.priority for m in members if rations[m.microgrid].import_limit_w is not None]
    for member in members:
        if short and member.priority > min(short):
            assert rations[member.microgrid].import_limit_w == 0


@given(members=_MEMBERS, given=_PLANTS)
def test_no_limit_is_below_what_the_line_gives(members: list[RationedMicrogrid], given: PlantSituation) -> None:
    line_w = given.line_w
    rations = ration_rangers(SupplyState.LOW, members, given)
    for priority in Priority:
        group = [m for m in members if m.priority is priority]
        limits = [(m, limit) for m in group if (limit := rations[m.microgrid].import_limit_w) is not None]
        # What the limits give, but for less than a watt a customer.
        given_w = sum(min(limit + m.customers, m.demand_w) for m, limit in limits if m.customers)
        asked = sum(m.demand_w for m in group if m.customers)
        if limits:
            assert given_w >= min(asked, line_w)
        line_w = max(0, line_w - sum(m.demand_w for m in group))


def test_a_microgrid_without_customers_takes_nothing_from_those_of_its_class() -> None:
    """With 3 W for two that asked for 2 W each, the one with a customer got 0 W."""
    one, none = replace(HOUSES, customers=1, demand_w=2), replace(MORE, customers=0, demand_w=2)
    rations = ration_rangers(SupplyState.LOW, [one, none], plant(3))
    assert [rations[member.microgrid].import_limit_w for member in (one, none)] == [2, 0]


def test_with_a_supply_that_is_normal_any_energy_above_the_reserve_is_enough() -> None:
    given = plant(200_000, level=1, power_w=100_000)
    limits = ration_rangers(SupplyState.NORMAL, TOWN, given)
    assert {one.import_limit_w for one in limits.values()} == {None}
    assert ration_rangers(SupplyState.NORMAL, TOWN, replace(given, level=given.reserve))["r001"].import_limit_w == 0
    # A dead line is a shortage, whatever the region says of its supply.
    assert ration_rangers(SupplyState.NORMAL, TOWN, replace(given, line_w=0))["a001"].import_limit_w == 0


CENTERTOWN: tuple[RationedMicrogrid, ...] = (
    RationedMicrogrid(microgrid="pub", priority=Priority.PUBLIC, customers=3, average_w=80_000, demand_w=80_000),
    RationedMicrogrid(
        microgrid="apt", priority=Priority.APARTMENTS, customers=300, average_w=180_000, demand_w=180_000
    ),
    RationedMicrogrid(
        microgrid="homes", priority=Priority.HOUSES, customers=8_000, average_w=9_600_000, demand_w=9_600_000
    ),
)
NEED_W = sum(member.demand_w for member in CENTERTOWN)


def course(energy: int) -> list[list[str]]:
    """The limits of apartments and houses in five quarter-hours of EMPTY, watts a customer; the level stays."""
    members, rows = CENTERTOWN, []
    for _ in range(5):
        rations = ration_rangers(SupplyState.EMPTY, members, plant(0, level=energy, power_w=3 * NEED_W))
        members = tuple(replace(m, limit_w=rations[m.microgrid].import_limit_w) for m in members)
        rows.append(["none" if m.limit_w is None else f"{m.limit_w // m.customers:,}" for m in members[1:]])
    return rows


@pytest.mark.parametrize(
    ("words", "energy"),
    [
        ("0", 0),
        ("1 mWh", 1),
        ("15 min", NEED_W * 250),
        *((f"{hours} h", hours * NEED_W * 1000) for hours in (1, 3, 6, 12, 24)),
    ],
)
def test_limits_of_an_empty_supply_come_step_by_step_as_the_page_says(words: str, energy: int) -> None:
    """# req: U5, P5"""
    rows = course(energy)
    assert rows[-2] == rows[-1], "after an hour the limits stand"
    flats, houses = (" → ".join(dict.fromkeys(limits)) for limits in zip(*rows, strict=True))
    assert f"| {words} | {flats} | {houses} |" in DOCS.read_text()


def test_energy_above_the_reserve_lasts_twelve_hours_for_the_classes_above() -> None:
    """# req: U5, P5"""
    level, members = 4 * NEED_W * 1000, CENTERTOWN
    served = dict.fromkeys(Priority, 0)
    for quarter in range(4 * 12):
        rations = ration_rangers(SupplyState.EMPTY, members, plant(0, level=level, power_w=3 * NEED_W))
        members = tuple(replace(m, limit_w=rations[m.microgrid].import_limit_w) for m in members)
        for m in members:
            taken = m.demand_w if m.limit_w is None else min(m.demand_w, m.limit_w)
            served[m.priority] += taken
            level -= taken * 250
        assert level > 0, quarter
    parts = [served[m.priority] / (48 * m.demand_w) for m in members]
    assert parts == [1, 1, pytest.approx(0.2, abs=0.05)]
    assert level > NEED_W * 1000, "more than an hour of the town's mean load is left"


def test_a_class_below_one_that_takes_the_whole_line_gets_not_a_watt() -> None:
    one = replace(HOUSES, customers=1)
    for state, why in ((SupplyState.LOW, "; the battery is to last 12 h"), (SupplyState.NORMAL, "")):
        found = ration_rangers(state, [PUBLIC, one], plant(90_000))[one.microgrid]
        assert (found.import_limit_w, found.reason) == (0, f"short: nothing left for houses{why}")


def test_energy_is_kept_for_what_the_classes_above_may_need_not_for_what_they_take_now() -> None:
    """The sun serves the hospital now: the battery has 12 h of its mean use, and nothing more."""
    sunny = replace(PUBLIC, demand_w=0)
    given = plant(0, level=12 * sunny.average_w * 1000, power_w=1_000_000)
    assert ration_rangers(SupplyState.EMPTY, [sunny, HOUSES], given)[HOUSES.microgrid].import_limit_w == 0


def test_a_microgrid_of_apartments_is_of_their_class_and_others_of_houses() -> None:
    town = load_town(Path(demo.__file__).with_name("town.toml"))
    found = {microgrid.kind: member_of(town.table, microgrid).priority for microgrid in town.microgrids.values()}
    assert found["apartment"] is Priority.APARTMENTS
    assert found["residential"] is Priority.HOUSES


def test_the_microgrid_of_the_hospital_is_public_in_the_town() -> None:
    town = load_town(Path(demo.__file__).with_name("town.toml"))
    members = [member_of(town.table, microgrid) for microgrid in town.microgrids.values()]
    assert [(m.customers, m.average_w) for m in members if m.priority is Priority.PUBLIC] == [(3, 80_000)]


NOW = 1_990_000 * QUARTER_S + 60
KEEP = 24_000_000


def report(level: int, *levels: int) -> PlantReport:
    """Return a report with the levels at the ends of the last quarter-hours, oldest first."""
    first = NOW // QUARTER_S - len(levels)
    quarters = (PlantQuarter(first + n, 60, 0, 0, 0, 0, each) for n, each in enumerate(levels))
    return PlantReport(
        time=NOW,
        level_mwh=level,
        capacity_mwh=100_000_000,
        battery_limit_w=9_000,
        line_w=9_000,
        supply=SupplyState.NORMAL,
        prices=((NOW, 1000),),
        prices_until=NOW + QUARTER_S,
        keep_mwh=KEEP,
        quarters=tuple(quarters),
    )


SINCE_S = 3 * QUARTER_S + 60  # from the end of the oldest of four quarter-hours to the report

LASTING = report(KEEP + 6_000_000, *(KEEP + each * 1_000_000 for each in (9, 8, 7, 6)))


@pytest.mark.parametrize(
    ("it", "until"),
    [
        (LASTING, NOW + 2 * SINCE_S),
        (report(KEEP // 2, KEEP, KEEP, KEEP, KEEP), NOW + SINCE_S),  # below the reserve: until it is empty
        (report(KEEP, KEEP - 1_000_000, KEEP - 1_000_000), None),
        (report(KEEP + 6_000_000, KEEP + 7_000_000), None),  # a minute says nothing
        (report(KEEP + 6_000_000), None),
    ],
)
def test_the_plants_battery_lasts_to_its_reserve_at_the_last_hours_mean(it: PlantReport, until: int | None) -> None:
    assert plant_lasts_until(it) == until


def test_quarter_hours_from_before_the_last_hour_do_not_count() -> None:
    old = PlantQuarter(NOW // QUARTER_S - 6, 60, 0, 0, 0, 0, 90_000_000)
    assert plant_lasts_until(LASTING.model_copy(update={"quarters": (old, *LASTING.quarters)})) == NOW + 2 * SINCE_S


def value(read: Callable[[], Iterable[Metric]], name: str, **labels: str) -> float | None:
    """Return a sample of some metrics."""
    registry = CollectorRegistry()
    registry.register(AtEachScrape(read))
    return registry.get_sample_value(f"commonwatt_utility_{name}", labels)


def test_the_plants_hours_are_a_metric() -> None:
    for it, left_s in ((LASTING, 2 * SINCE_S), (report(KEEP), math.nan)):
        found = value(partial(plant_metrics, (NOW, it), NOW + 5), "plant_left_seconds")
        assert found == pytest.approx(left_s, nan_ok=True)


def test_the_plants_hours_are_shown_with_the_time_they_end(database: Database) -> None:
    with database.writes.begin() as connection:
        write_plant(connection, [SawPlant(time=NOW, report=LASTING)])
        plant = supply_view(connection, NOW + 5, 1)["plant"]
    assert (plant["hours_left"], plant["lasts_until"]) == (round(2 * SINCE_S / 3600, 1), NOW + 2 * SINCE_S)
