"""In an island places are off in turn when little energy is left: by priority, fairly, and back in order."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from commonwatt.energy.places import blocks_of
from commonwatt.energy.shedding import GROUPS, LADDER, TURN_S, Islands, PlacePriority, hours_left, ranks, shed
from commonwatt.energy.step import Boundary, Inputs, step_alone
from commonwatt.model.records import State
from commonwatt.protocol.commands import Command
from commonwatt.town.loading import load_town
from commonwatt.town.town import Function
from harness.surroundings.gateway import World, commands

KEPT, APARTMENT, HOUSE = PlacePriority.KEPT, PlacePriority.APARTMENT, PlacePriority.HOUSE
PLACES = (KEPT, *[APARTMENT] * 6, *[HOUSE] * 6)


def island(hours: float, *, off: bool = False, number: int = 0, known: bool = True) -> Islands:
    """One source with so many hours above its floor, apartments, and houses at their floors."""
    level, floor, capacity = np.zeros((3, 1, len(PLACES)), dtype=np.int64)
    capacity[0, 0], floor[0, 0] = 24_000, 12_000
    level[0, 0] = 12_000 + round(1000 * hours)
    return Islands(
        level=level,
        floor=floor,
        capacity=capacity,
        known=np.array([[known] + [False] * 12]),
        priority=np.array([PLACES]),
        rank=ranks(np.array([PLACES])),
        off=np.array([[off] * 13]),
        number=np.array([number]),
        import_w=np.array([0]),
    )


def counts(islands: Islands, time: int = 0) -> tuple[int, int, int]:
    """How many kept places, apartments and houses are off."""
    flags = shed(islands, time)
    kept, apartments, houses = (int((flags & (islands.priority == each)).sum()) for each in PlacePriority)
    return kept, apartments, houses


@pytest.mark.parametrize(
    ("hours", "off"),
    [
        (12, (0, 0, 0)),
        (4, (0, 0, 0)),
        (3.9, (0, 0, 2)),
        (1.9, (0, 2, 4)),
        (0.9, (0, 4, 4)),
        (0, (0, 4, 4)),
    ],
)
def test_the_less_energy_the_more_places_are_off_and_houses_first(hours: float, off: tuple[int, int, int]) -> None:
    # req: U5, C5
    assert counts(island(hours)) == off


def test_a_black_start_returns_apartments_before_houses_and_nobody_comes_and_goes() -> None:
    returns = [counts(island(hours, off=True)) for hours in (0, 1.2, 1.3, 2.4, 2.6, 4.9, 5.1)]
    assert returns == [(0, 4, 4), (0, 4, 4), (0, 2, 4), (0, 2, 4), (0, 0, 2), (0, 0, 2), (0, 0, 0)]


def test_a_rung_in_force_does_not_bring_the_next_one_sooner() -> None:
    first = island(3.9)
    for hours in (2.4, 2.1):
        assert counts(replace(island(hours), off=shed(first, 0))) == (0, 0, 2)
    second = shed(island(1.9), 0)
    assert counts(replace(island(1.2), off=second)) == (0, 2, 4)
    assert counts(replace(island(2.4), off=second)) == (0, 2, 4)


def test_every_place_is_off_equally_long_and_neighbours_at_other_times() -> None:
    for hours, groups in ((3, 1), (0.5, 2)):
        total = sum(shed(island(hours), turn * TURN_S)[0].astype(int) for turn in range(2 * GROUPS))
        assert set(total[np.array(PLACES) == HOUSE].tolist()) == {2 * groups}
    assert (shed(island(3), 0) != shed(island(3, number=1), 0)).any()
    assert (shed(island(3), 0) == shed(island(3), TURN_S - 1)).all()


def test_a_house_above_its_floor_stays_since_it_can_give() -> None:
    rich = island(0)
    level = rich.level.copy()
    level[0, -6:] = 1
    known = rich.known.copy()
    known[0, -6:] = True
    assert counts(replace(rich, level=level, known=known))[2] == 0


def test_an_island_of_which_nothing_is_known_sheds_nothing() -> None:
    assert hours_left(island(0, known=False)) == np.inf
    assert counts(island(0, known=False)) == (0, 0, 0)


def test_random_islands_have_no_inversion_of_priority() -> None:
    rng = np.random.default_rng(5)
    shape = (5_000, 12)
    capacity = rng.integers(0, 10**9, shape)
    priority = rng.integers(0, 3, shape)
    islands = Islands(
        level=(capacity * rng.random(shape) ** 3).astype(np.int64),
        floor=capacity // 4 * rng.integers(1, 4, shape),
        capacity=capacity,
        known=rng.random(shape) < 0.9,
        priority=priority,
        rank=ranks(priority),
        off=np.repeat(rng.random((5_000, 1)) < 0.5, 12, axis=1),
        number=rng.integers(0, 256, 5_000),
        import_w=rng.integers(0, 2, 5_000) * rng.integers(0, 200, 5_000),
    )
    flags = shed(islands, 1_782_000_000)
    assert flags.any()
    assert not (flags & (islands.priority == KEPT)).any(), "emergency services never"
    takes = ~(islands.known & (islands.level > islands.floor))
    houses = takes & (islands.priority == HOUSE)
    # With three houses that take, one of each group at least is off before any apartment is.
    some_apartment_off = (flags & (islands.priority == APARTMENT)).any(axis=1)
    all_houses_take = (houses.sum(axis=1) == (islands.priority == HOUSE).sum(axis=1)) & (houses.sum(axis=1) >= GROUPS)
    assert (flags & houses).any(axis=1)[some_apartment_off & all_houses_take].all()


def test_in_an_apartment_island_every_apartment_is_served_in_turn_and_the_batteries_last_longer(tmp_path: Path) -> None:
    (tmp_path / "town.toml").write_text(
        '[[microgrid]]\nid = "a"\nkind = "apartment"\nbuildings = 3\napartments = 6\ncount = 1\n'
    )
    town = load_town(tmp_path / "town.toml")
    (places,) = blocks_of(town, town.microgrids.values(), 900)
    users = np.broadcast_to(places.users, places.shape)
    load = np.where(users, places.capacity.sum() // int(users.sum()) // 96, 0)
    level = dict.fromkeys(("shed", "nothing"), places.minimum + places.capacity * 3 // 100)
    served = {rule: np.zeros(places.shape, dtype=np.int64) for rule in level}
    off = np.zeros(places.shape, dtype=np.bool_)
    for step in range(24):
        dark = Boundary(
            voltage=np.array([False]), closed=np.array([False]), import_limit_w=np.array([0], dtype=np.int64)
        )
        priority = np.where(users, APARTMENT, KEPT).astype(np.int64)
        off = shed(
            Islands(
                level=level["shed"],
                floor=places.minimum,
                capacity=places.capacity,
                known=places.capacity > 0,
                priority=priority,
                rank=ranks(priority),
                off=off,
                number=np.array([3]),
                import_w=np.array([0]),
            ),
            step * 900,
        )
        for rule, isolated in (("shed", off), ("nothing", None)):
            inputs = Inputs(load=load, generation=np.zeros_like(load), isolated=isolated)
            flows = step_alone(places, level[rule], inputs, dark).flows
            level[rule] = flows.level
            served[rule] += flows.served
    lasts = {rule: int(level[rule].sum()) for rule in level}
    assert lasts["shed"] > lasts["nothing"] * 1.2
    each = served["shed"][users]
    assert each.min() * 3 >= each.max() * 2, "turns are fair"


# The gateway

BOUNDARY, HOUSES = 4, (1, 2, 3)
ISLAND = int(State.INITIALIZED | State.OFF_GRID | State.SWITCH_OPEN)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    it = World(tmp_path / "gateway.db")
    it.meters[BOUNDARY] = it.meters[BOUNDARY].model_copy(update={"function": Function.BOUNDARY})
    it.new_core()
    for meter in HOUSES:
        it.introduce(meter)
    yield it
    it.store.close()


def isolated(world: World, before: int) -> list[tuple[str, str | None]]:
    return [
        (p.topic.split("/")[2], c.state)
        for p in world.sent[before:]
        for c in commands([p])
        if c.cmd == "isolate" and f"/{BOUNDARY}/" not in p.topic
    ]


def sensed(world: World, bits: int) -> list[Command]:
    return world.introduce(BOUNDARY, minimum=None, bits=bits, cmd="get")


def test_the_gateway_isolates_places_in_turn_and_ends_it_with_the_island(world: World) -> None:
    sensed(world, ISLAND | int(State.DEAD_FEEDER))
    before = len(world.sent)
    for meter in HOUSES:
        world.level(meter, 49)
    world.tick("retry")
    first = isolated(world, before)
    assert [state for _, state in first] == ["on", "on"], "two of three houses at their floors"
    view = world.core.modes.view(world.core.now)
    assert view.shedding == "2 of 3 places are off in turn: 0.0 h of average use is left above the floors"
    world.now += TURN_S
    for meter in HOUSES:
        world.level(meter, 49)
    before = len(world.sent)
    sensed(world, ISLAND | int(State.DEAD_FEEDER))
    assert {state for _, state in isolated(world, before)} == {"on"}, "the next turn; the last one ended by itself"
    before = len(world.sent)
    for _ in range(0, 1800, 15):  # A stable voltage, and the microgrid's own delay.
        world.now += 15
        sensed(world, ISLAND)
    sensed(world, int(State.INITIALIZED))
    assert [state for _, state in isolated(world, before)][-2:] == ["off", "off"]
    assert world.core.modes.view(world.core.now).shedding is None


@pytest.mark.parametrize("percent", [101, 120, 900])
def test_a_level_that_cannot_be_keeps_no_place_from_its_turn(world: World, percent: int) -> None:
    sensed(world, ISLAND | int(State.DEAD_FEEDER))
    off = set()
    for _ in range(GROUPS):
        world.now += TURN_S
        for meter, level in ((1, 49), (2, 49), (3, percent)):
            world.level(meter, level)
        before = len(world.sent)
        sensed(world, ISLAND | int(State.DEAD_FEEDER))
        world.tick("retry")
        off |= {meter for meter, state in isolated(world, before) if state == "on"}
        shedding = world.core.modes.view(world.core.now).shedding
        assert shedding is not None
        assert shedding.endswith(": 0.0 h of average use is left above the floors")
    assert off == {"1", "2", "3"}


def test_a_place_is_isolated_at_the_meter_that_came_in_place_of_another_one(world: World) -> None:
    new = world.meters[1].model_copy(update={"id": 9})
    world.meters = world.meters | {1: world.meters[1].model_copy(update={"replaced": True}), 9: new}
    world.core.register(world.meters)
    world.introduce(9)
    before = len(world.sent)
    for _ in range(GROUPS):
        world.now += TURN_S
        sensed(world, ISLAND | int(State.DEAD_FEEDER))
        for meter in (9, 2, 3):
            world.level(meter, 49)
        world.tick("retry")
    assert {meter for meter, _ in isolated(world, before)} == {"9", "2", "3"}


def test_a_microgrid_on_the_grid_sheds_nothing(world: World) -> None:
    sensed(world, int(State.INITIALIZED))
    before = len(world.sent)
    for meter in HOUSES:
        world.level(meter, 1)
    world.tick("retry")
    assert isolated(world, before) == []


def test_the_ladder_only_climbs() -> None:
    for lower, higher in pairwise(LADDER):
        assert lower.below_h > higher.below_h
        assert (lower.houses, lower.apartments) <= (higher.houses, higher.apartments)


# A limited microgrid.


def limited(hours: float, import_w: int) -> Islands:
    """As ``island``, with an average use of 1 kW: so much of it may come from the town."""
    one = island(hours)
    scaled = {name: getattr(one, name) * 1000 for name in ("level", "floor", "capacity")}
    return replace(one, **scaled, import_w=np.array([import_w]))


@pytest.mark.parametrize(
    ("hours", "import_w", "off"),
    [
        (0, 0, (0, 4, 4)),
        (3.9, 0, (0, 0, 2)),
        (0, 300, (0, 4, 4)),
        (0, 500, (0, 2, 2)),
        (0, 700, (0, 0, 0)),
        (0, 1000, (0, 0, 0)),
        (3.9, 300, (0, 0, 0)),
        (1.9, 500, (0, 0, 2)),
    ],
)
def test_a_limited_microgrid_sheds_what_the_limit_and_the_batteries_do_not_cover(
    hours: float, import_w: int, off: tuple[int, int, int]
) -> None:
    # req: C1, A8
    assert counts(limited(hours, import_w)) == off


def test_a_limit_of_nothing_is_as_an_island_and_a_higher_limit_never_sheds_more() -> None:
    for hours in (0.0, 0.9, 1.9, 3.9, 5.0):
        assert counts(limited(hours, 0)) == counts(island(hours))
        off = [sum(counts(limited(hours, watts))) for watts in range(0, 1001, 50)]
        assert off == sorted(off, reverse=True)


def test_the_gateway_sheds_in_turn_within_a_limit_of_nothing_and_ends_it_with_the_limit(world: World) -> None:
    sensed(world, int(State.INITIALIZED))
    for meter, percent in ((1, 49), (2, 49), (3, 51)):
        world.level(meter, percent)
    before = len(world.sent)
    world.tick("retry")
    assert isolated(world, before) == []
    world.ask(cmd="supply", supply="CRITICAL", import_limit_w=0, for_s=600)
    first = isolated(world, before)
    assert first
    assert {state for _, state in first} == {"on"}
    assert "3" not in {meter for meter, _ in first}, "its battery is above its floor"
    shedding = world.core.modes.view(world.core.now).shedding
    assert shedding is not None
    assert shedding.endswith("h of average use is left above the floors")
    before = len(world.sent)
    world.now += 600
    world.tick("retry")
    assert isolated(world, before) == [(meter, "off") for meter, _ in first]


def test_places_that_are_off_stay_off_until_clearly_more_energy_is_left(world: World) -> None:
    """With the energy just above a rung, they would come and go with each report of a level."""

    def off_at(percent: int) -> int:
        world.now += 15
        for meter, level in zip(HOUSES, (49, percent, 49), strict=True):
            world.level(meter, level)
        sensed(world, ISLAND | int(State.DEAD_FEEDER))
        world.tick("retry")
        shedding = world.core.modes.view(world.core.now).shedding
        return int(shedding[0]) if shedding else 0

    fresh = {percent: off_at(percent) for percent in range(95, 49, -1)}
    begins = max(percent for percent, off in fresh.items() if off == 2)
    assert fresh[begins + 1] == 1
    assert off_at(begins) == 2
    assert off_at(begins + 1) == 2, "the rung is in force"
    assert off_at(95) < 2
