"""Rationing: who is limited when the regional supply is short."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt import demo
from commonwatt.model.supply import SupplyState
from commonwatt.town.town import load_town
from utility.supply.rationing import RATIONING, Member, Priority, member_of, ration_aces, ration_rangers

PUBLIC = Member(microgrid="p001", priority=Priority.PUBLIC, customers=3, average_w=80_000, demand_w=90_000)
FLATS = Member(
    microgrid="a001",
    priority=Priority.APARTMENTS,
    customers=300,
    average_w=180_000,
    demand_w=150_000,
    like_hour_w=120_000,
)
HOUSES = Member(microgrid="r001", priority=Priority.HOUSES, customers=10, average_w=12_000, demand_w=9_000)
MORE = Member(microgrid="r002", priority=Priority.HOUSES, customers=10, average_w=12_000, demand_w=2_000)
TOWN = (PUBLIC, FLATS, HOUSES, MORE)
ENOUGH_W = 10_000_000


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
    rations = ration_aces(state, TOWN, ENOUGH_W)
    assert [rations[m.microgrid].import_limit_w for m in TOWN] == [None, apartments, houses, houses]
    assert {ration.reduce for ration in rations.values()} == {reduce}


def test_apartments_without_a_like_day_get_half_of_their_average_use() -> None:
    flats = Member(microgrid="a001", priority=Priority.APARTMENTS, customers=300, average_w=180_000)
    ration = ration_aces(SupplyState.CRITICAL, [flats], 0)["a001"]
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
    rations = ration_rangers(SupplyState.NORMAL, TOWN, available)
    assert [rations[m.microgrid].import_limit_w for m in TOWN] == limits


_MEMBERS = st.lists(
    st.builds(
        Member,
        microgrid=st.uuids().map(str),
        priority=st.sampled_from(Priority),
        customers=st.integers(0, 400),
        average_w=st.integers(0, 10**6),
        demand_w=st.integers(0, 10**6),
        like_hour_w=st.none() | st.integers(0, 10**6),
    ),
    max_size=12,
)


@given(
    name=st.sampled_from(sorted(RATIONING)),
    state=st.sampled_from(SupplyState),
    members=_MEMBERS,
    available=st.integers(-5, 10**7),
)
def test_no_rule_ever_limits_emergency_services_and_every_ration_has_its_reason(
    name: str, state: SupplyState, members: list[Member], available: int
) -> None:
    rations = RATIONING[name](state, members, available)
    assert rations.keys() == {m.microgrid for m in members}
    for member in members:
        ration = rations[member.microgrid]
        assert ration.reason
        if member.priority is Priority.PUBLIC:
            assert ration.import_limit_w is None
        if state is not SupplyState.NORMAL:
            assert ration.reduce


@given(members=_MEMBERS, available=st.integers(0, 10**7))
def test_rangers_gives_a_lower_class_nothing_while_a_higher_one_is_short(members: list[Member], available: int) -> None:
    rations = ration_rangers(SupplyState.CRITICAL, members, available)

    def served(member: Member) -> int:
        limit = rations[member.microgrid].import_limit_w
        return member.demand_w if limit is None else min(limit, member.demand_w)

    public = sum(m.demand_w for m in members if m.priority is Priority.PUBLIC)
    others = [m for m in members if m.priority is not Priority.PUBLIC]
    assert sum(map(served, others)) <= max(0, available - public)
    short = [m.priority for m in members if rations[m.microgrid].import_limit_w is not None]
    for member in members:
        if short and member.priority > min(short):
            assert rations[member.microgrid].import_limit_w == 0


def test_the_microgrid_of_the_hospital_is_public_in_the_town() -> None:
    town = load_town(Path(demo.__file__).with_name("town.toml"))
    members = [member_of(town.table, microgrid) for microgrid in town.microgrids.values()]
    assert [(m.customers, m.average_w) for m in members if m.priority is Priority.PUBLIC] == [(3, 80_000)]
