"""Moves are what the registry's table would make of them, and divide a home's bill: who had it then, has the bill."""

from dataclasses import replace
from decimal import Decimal
from random import Random
from zoneinfo import ZoneInfo

import pytest

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import Quarter
from commonwatt.town.town import Direction, Function
from harness.billing.worlds import World, world_of
from tests.unit.utility.billing.test_bills import issued, stored
from utility.billing.bill import Bill, LineKind
from utility.billing.run import bills_of
from utility.billing.stored_run import computed
from utility.moves.move import Move, MoveKind, moved, taken_back
from utility.registry.accounts import Account, DatedRegistry, Holding, Installed, exchanged
from utility.registry.changes import date_text, parse_quarter
from utility.registry.importing import apply_facts
from utility.registry.table import COLUMNS, read_table

ZONE = ZoneInfo("America/New_York")


def at(text: str) -> Quarter:
    return parse_quarter(text, ZONE)


def meter(number: int, *held: Holding, place: str = "house 1") -> Installed:
    direction = Direction.INCOMING if number % 2 else Direction.OUTGOING
    return Installed(
        id=number, microgrid="r001", place=place, function=Function.HOUSE, direction=direction, holdings=held
    )


def registry(*meters: Installed) -> DatedRegistry:
    accounts = {h.account: Account(number=h.account, function=Function.HOUSE) for m in meters for h in m.holdings}
    return DatedRegistry(revision=1, meters={m.id: m for m in meters}, accounts=accounts)


SEVEN, EIGHT = Holding(account=7, start=0), Holding(account=8, start=0)
TOWN = registry(meter(1, SEVEN), meter(2, SEVEN), meter(3, Holding(account=8, start=0), place="house 2"))


def spans(found: DatedRegistry, number: int = 1) -> list[tuple[int, int, int | None]]:
    return [(held.account, held.start, held.end) for held in found.meters[number].holdings]


def done(before: DatedRegistry, kind: MoveKind, account: int, when: str, following: int | None = None) -> DatedRegistry:
    return moved(before, Move(kind=kind, account=account, at=at(when), next=following), ZONE)[0]


@pytest.mark.parametrize("when", ["2026-11-01", "2026-11-01T01:45-05:00", "2027-03-14T03:00", "2026-12-15T14:15"])
@pytest.mark.parametrize("following", [9, 8, None])
def test_move_is_what_the_registrys_table_makes_of_it(when: str, following: int | None) -> None:
    kind = MoveKind.EMPTY if following is None else MoveKind.MOVE
    after = done(TOWN, kind, 7, when, 0 if following == 9 else following)
    until = date_text(at(when), ZONE)
    rows = [f"holder,r001,house 1,,7,,{until}", f"holder,r001,house 1,,{following},{until},"]
    rows.append(f"account,,,,{following}")
    rows = rows[:1] if following is None else rows
    head = "what,microgrid,place,meter,account,from,to"
    assert set(head.split(",")) <= set(COLUMNS)
    by_table, faults = apply_facts(TOWN, *read_table("\n".join([head, *rows]).encode(), ZONE), ZONE)
    assert faults == []
    assert by_table == after


def test_two_moves_in_a_month_and_an_empty_home_between() -> None:
    found = done(TOWN, MoveKind.EMPTY, 7, "2026-11-10")
    found = done(found, MoveKind.IN, 7, "2026-11-12", 0)
    found = done(found, MoveKind.MOVE, 9, "2026-11-20", 0)
    days = [at(f"2026-11-{day}") for day in (10, 12, 20)]
    assert spans(found) == spans(found, 2) == [(7, 0, days[0]), (9, days[1], days[2]), (10, days[2], None)]
    assert spans(found, 3) == [(8, 0, None)]
    back = done(done(TOWN, MoveKind.EMPTY, 7, "2026-11-10"), MoveKind.IN, 7, "2026-11-12", 7)
    assert spans(back) == [(7, 0, days[0]), (7, days[1], None)]


def test_move_told_late_includes_the_meter_that_came_since() -> None:
    exchange = exchanged(TOWN, 1, 11, at("2026-11-20"), None, None)
    for kind, following, comes in ((MoveKind.MOVE, 0, [9]), (MoveKind.EMPTY, None, [])):
        found = done(exchange, kind, 7, "2026-11-10", following)
        assert spans(found) == [(7, 0, at("2026-11-10")), *((n, at("2026-11-10"), at("2026-11-20")) for n in comes)]
        assert spans(found, 11) == [(n, at("2026-11-20"), None) for n in comes]
    empty = done(exchange, MoveKind.EMPTY, 7, "2026-11-10")
    assert spans(done(empty, MoveKind.IN, 7, "2026-11-25", 8), 11) == [(8, at("2026-11-25"), None)]


@pytest.mark.parametrize("of", ["leaves", "comes"])
@pytest.mark.parametrize(("kind", "following"), [(MoveKind.MOVE, 0), (MoveKind.MOVE, 8), (MoveKind.EMPTY, None)])
def test_a_move_of_a_day_to_come_is_taken_back_whole(kind: MoveKind, following: int | None, of: str) -> None:
    later = replace(meter(3, Holding(account=7, start=at("2026-12-20"))), start=at("2026-12-20"))
    before = registry(meter(1, SEVEN), meter(2, SEVEN), later, meter(4, EIGHT, place="house 2"))
    after = done(before, kind, 7, "2026-12-15", following)
    comes = max(after.accounts) if following == 0 else following
    account = comes if of == "comes" and comes else 7
    found, when, accounts = taken_back(after, account, at("2026-12-14"))
    assert (found.meters, when) == (before.meters, at("2026-12-15"))
    assert accounts == ([7] if comes is None else [7, comes])
    with pytest.raises(ConfigError, match="no move of a day to come"):
        taken_back(after, account, at("2026-12-15"))


def test_an_account_that_comes_into_an_empty_home_stays_away_after_all() -> None:
    empty = done(TOWN, MoveKind.EMPTY, 7, "2026-11-10")
    found, _, accounts = taken_back(done(empty, MoveKind.IN, 7, "2026-12-15", 8), 8, at("2026-12-14"))
    assert (found.meters, accounts) == (empty.meters, [8])


def test_of_two_moves_to_come_the_later_one_is_taken_back_first() -> None:
    both = done(done(TOWN, MoveKind.MOVE, 7, "2026-12-15", 0), MoveKind.MOVE, 9, "2026-12-20", 0)
    with pytest.raises(ConfigError, match="take that one back first"):
        taken_back(both, 7, at("2026-12-14"))
    found, _, _ = taken_back(both, 10, at("2026-12-14"))
    assert taken_back(found, 7, at("2026-12-14"))[0].meters == TOWN.meters


def test_impossible_move_is_refused_with_words() -> None:
    later = done(TOWN, MoveKind.MOVE, 7, "2026-11-10", 0)
    full = replace(TOWN, accounts=dict(TOWN.accounts) | {65_535: TOWN.accounts[7]})
    begun = registry(meter(1, Holding(account=7, start=at("2026-11-05"))))
    for before, kind, account, when, following, words in (
        (TOWN, MoveKind.MOVE, 9, "2026-11-10", 0, "9 is not registered"),
        (TOWN, MoveKind.MOVE, 7, "2026-11-10", 7, "this account leaves"),
        (TOWN, MoveKind.MOVE, 7, "2026-11-10", 99, "99 is no registered account"),
        (TOWN, MoveKind.MOVE, 7, "2026-11-10", None, "give the account that comes"),
        (TOWN, MoveKind.EMPTY, 7, "2026-11-10", 8, "leave it empty"),
        (TOWN, MoveKind.IN, 7, "2026-11-10", 0, "no home that account 7 had last is empty"),
        (later, MoveKind.MOVE, 7, "2026-11-05", 8, "is dated already"),
        (later, MoveKind.MOVE, 7, "2026-11-12", 8, "account 7 has no meter just before"),
        (later, MoveKind.IN, 7, "2026-11-12", 8, "no home"),
        (begun, MoveKind.MOVE, 7, "2026-11-05", 0, "account 7 has no meter just before"),
        (full, MoveKind.MOVE, 7, "2026-11-10", 0, "65536"),
    ):
        with pytest.raises(ConfigError, match=words):
            done(before, kind, account, when, following)


def energies(bills: list[Bill]) -> dict[tuple[LineKind, str], int]:
    found: dict[tuple[LineKind, str], int] = {}
    for line in (line for bill in bills for line in bill.lines if line.energy):
        text = line.text.partition(",")[0] + line.period
        found[line.kind, text] = found.get((line.kind, text), 0) + (line.energy or 0)
    return found


def owed(bills: list[Bill]) -> Decimal:
    """Return what bills come to before credit beyond the other lines lapses."""
    return sum((line.amount for b in bills for line in b.lines if line.kind is not LineKind.LAPSED), Decimal(0))


def moving(world: World, random: Random) -> tuple[World, int, int, Quarter]:
    """Return a world in which an account moves at a random quarter, with both accounts and the quarter."""
    inputs = world.inputs
    homes = [m for m in inputs.registry.meters.values() if m.function is Function.HOUSE and m.holdings]
    account, quarter = random.choice(homes).holdings[-1].account, random.randrange(inputs.first + 1, inputs.until)
    numbers = {h.account for m in inputs.registry.meters.values() for h in m.holdings}
    accounts = {number: Account(number=number, function=Function.HOUSE) for number in numbers}
    move = Move(kind=MoveKind.MOVE, account=account, at=quarter, next=0)
    after, comes, _ = moved(replace(inputs.registry, accounts=accounts), move, ZONE)
    assert comes is not None
    return replace(world, inputs=replace(inputs, registry=after)), account, comes, quarter


@pytest.mark.parametrize("seed", range(8))
def test_bills_of_who_leaves_and_who_comes_are_that_of_the_home(seed: int) -> None:
    world = world_of(seed)
    random = Random(seed)
    values = next(iter(world.settled.energies.values()))
    for each in world.settled.energies.values():
        each += random.randrange(1, 9) * 1_000 * (1 + (values % 7))
    after, account, comes, quarter = moving(world, random)
    before, divided = bills_of(world.inputs, world.load).billed, bills_of(after.inputs, after.load).billed
    whole, parts = before[account].bill, [divided[number].bill for number in (account, comes)]
    assert energies(parts) == energies([whole]), "each quarter-hour is on one of the two bills"
    assert [(bill.start, bill.end) for bill in parts] == [(whole.start, quarter), (quarter, whole.end)]
    assert abs(owed(parts) - owed([whole])) <= Decimal("0.01"), "each is rounded once"
    assert {n: each.bill for n, each in divided.items() if n not in (account, comes)} == {
        n: each.bill for n, each in before.items() if n != account
    }, "no other bill changes"


def test_move_told_after_the_bills_are_issued_becomes_corrections() -> None:
    world = world_of()
    october = computed(stored(world, "2026-10"), world.load)
    in_october = replace(world, inputs=replace(world.inputs, month="2026-10"))
    late, account, comes, _ = moving(in_october, Random(1))
    world = replace(world, inputs=replace(late.inputs, month="2026-11"))
    november = computed(stored(world, earlier=(issued(october, "2026-10"),)), world.load)
    own = bills_of(late.inputs, late.load).billed
    (correction,) = (line for line in november.billed[comes].bill.lines if line.kind is LineKind.CORRECTION)
    assert (correction.month, correction.amount) == ("2026-10", own[comes].bill.total), "who came owes its part"
    too_much = october.billed[account].bill.total - own[account].bill.total
    assert november.figures["open_corrections"] == str(-too_much), "what is due to who left stays open"
    assert abs(too_much - correction.amount) <= Decimal("0.01")
