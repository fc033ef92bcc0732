"""No line carries too many meters, few are moved at once, and a person's pin wins (A1, A2)."""

from hypothesis import given
from hypothesis import strategies as st

from utility.collection.balance import ENOUGH, IN_USE, Collected, Order, balanced, line_of, loads

NAMES = ("a001", "r001", "r002", "r003", "r004")


def meters_of(home: str, others: Order, count: int, first: int, *, pinned: bool = False) -> list[Collected]:
    order = (home, *others)
    return [
        Collected(meter=first + n, installed=order, choices=order, order=order, pinned=pinned) for n in range(count)
    ]


def after(meters: list[Collected], alive: set[str], most: int) -> list[Collected]:
    moves = balanced(meters, alive, most)
    assert len(moves) <= most
    return [
        Collected(
            meter=one.meter,
            installed=one.installed,
            choices=one.choices,
            order=moves[one.meter].order if one.meter in moves else one.order,
            pinned=one.pinned,
        )
        for one in meters
    ]


def test_apartments_are_spread_over_their_collectors_a_twentieth_an_hour() -> None:
    town = [
        *meters_of("a001", ("r001", "r002", "r003"), 60, 1),
        *(one for n, name in enumerate(NAMES[1:4]) for one in meters_of(name, (), 4, 1000 * (n + 1))),
    ]
    hours = 0
    while (later := after(town, set(NAMES), len(town) // 20)) != town:
        town, hours = later, hours + 1
    assert loads(town, NAMES) == {"a001": 21, "r001": 17, "r002": 17, "r003": 17}
    assert hours == 13, "39 meters, 3 an hour"


def test_a_lost_line_is_shared_by_the_others_and_its_meters_come_home() -> None:
    ring = NAMES[1:4]
    town = [
        one for n, name in enumerate(ring) for one in meters_of(name, (*ring[n + 1 :], *ring[:n]), 20, 1000 * (n + 1))
    ]
    assert balanced(town, ring, 100) == {}
    left = after(town, {"r002", "r003"}, 100)
    assert loads(left, {"r002", "r003"}) == {"r002": 30, "r003": 30}
    assert {line_of(one.order, ring) for one in left if one.meter >= 2000} == {"r002", "r003"}
    home = after(left, set(ring), 100)
    assert loads(home, ring) == dict.fromkeys(ring, 20)
    assert all(line_of(one.order, ring) == one.installed[0] for one in home)


def test_a_pinned_meter_stays_also_on_a_dead_line() -> None:
    town = meters_of("r001", ("r002",), 60, 1, pinned=True)
    assert balanced(town, {"r001", "r002"}, 100) == balanced(town, {"r002"}, 100) == {}


def test_a_neighbourhood_all_dead_waits_and_moves_as_soon_as_a_broker_is_back() -> None:
    town = meters_of("r001", ("r002", "r003", "r004"), 10, 1)
    assert balanced(town, {"a001"}, 100) == {}
    assert loads(after(town, {"r004"}, 100), {"r004"}) == {"r004": 10}, "beyond the first three, by an order"


@st.composite
def towns(draw: st.DrawFn) -> tuple[list[Collected], set[str], int]:
    meters = []
    for number in range(draw(st.integers(1, 60))):
        brokers = tuple(draw(st.permutations(NAMES)))[: draw(st.integers(1, 5))]
        choices = tuple(name for name in brokers if name == brokers[0] or draw(st.booleans()))
        order = tuple(draw(st.permutations(brokers)))
        one = Collected(
            meter=number,
            installed=brokers,
            choices=choices,
            order=order,
            pinned=draw(st.booleans()) and number % 3 == 0,
        )
        meters.append(one)
    return meters, set(draw(st.sets(st.sampled_from(NAMES), min_size=1))), draw(st.integers(0, 90))


@given(towns())
def test_each_move_is_allowed_and_the_fullest_line_gets_no_fuller(town: tuple[list[Collected], set[str], int]) -> None:
    meters, alive, most = town
    by_id = {one.meter: one for one in meters}
    moves = balanced(meters, alive, most)
    for meter, move in moves.items():
        one = by_id[meter]
        assert not one.pinned
        assert move.order[0] in one.choices
        assert move.order[0] in alive
        assert sorted(move.order) == sorted(one.installed)
        assert one.installed[0] in move.order[:IN_USE]
    before, now = (loads(each, alive) for each in (meters, after(meters, alive, most)))
    lost = sum(count for name, count in before.items() if name not in alive)
    assert max(now.get(name, 0) for name in alive) <= max(ENOUGH, *(before.get(n, 0) + lost for n in alive))


@given(towns())
def test_balancing_comes_to_rest(town: tuple[list[Collected], set[str], int]) -> None:
    rest, alive, _ = town
    for _ in range(len(rest) + 2):
        rest = after(rest, alive, 1000)
    assert balanced(rest, alive, 1000) == {}
