"""Random towns with settled quarter-hours: moves, exchanges, changes of rates, missing data; whole towns."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from commonwatt.model.calendar import month_before, month_quarters
from commonwatt.model.units import EpochSeconds, Quarter
from commonwatt.town.town import Direction, Function
from utility.billing.inputs import RunInputs
from utility.billing.store import billing_sources
from utility.database.database import Database
from utility.energy.quarters import Energies, Quantity, SettledQuarters
from utility.registry.accounts import Account, Dated, DatedRegistry, Holding, Installed, functions_of
from utility.tariffs import store as tariffs
from utility.tariffs.file import TariffFile, faults
from utility.tariffs.tariff import Tariff

ZONE = "America/New_York"
MONTHS = ("2026-10", "2026-11", "2027-03")


@dataclass(frozen=True, kw_only=True)
class World:
    """What a run of bills starts from."""

    inputs: RunInputs
    settled: SettledQuarters

    def load(self, meters: Sequence[int], first: Quarter, until: Quarter) -> SettledQuarters:
        """Return the settled quarter-hours of some meters."""
        rows = np.flatnonzero(np.isin(self.settled.meters, np.array(meters, np.uint64)))
        columns = slice(first - self.settled.first, until - self.settled.first)
        assert columns.start >= 0
        return SettledQuarters(
            meters=self.settled.meters[rows],
            first=first,
            energies={quantity: values[rows, columns] for quantity, values in self.settled.energies.items()},
            quality=self.settled.quality[rows, columns],
            provisional=self.settled.provisional[rows, columns],
            version=self.settled.version[rows, columns],
        )


def tariff(
    name: str = "town",
    version: int = 1,
    effective: str = "2026-01-01",
    base: str = "12.00",
    prices: Sequence[tuple[str, str, str]] = (("peak", "0.32", "0.16"), ("off-peak", "0.20", "0.10")),
    peak: tuple[str, str] = ("15:00", "21:00"),
    policy: dict[str, Any] | None = None,
    **tables: Any,
) -> Tariff:
    """Return a tariff with peak hours on weekdays that are no holidays."""
    high, low = prices[0][0], prices[-1][0]
    begin, end = peak
    hours = [
        {"period": low, "days": ["weekday"], "from": "00:00", "until": begin},
        {"period": high, "days": ["weekday"], "from": begin, "until": end},
        {"period": low, "days": ["weekday"], "from": end, "until": "24:00"},
        {"period": low, "days": ["weekend", "holiday"], "from": "00:00", "until": "24:00"},
    ]
    file = TariffFile.model_validate(
        {
            "tariff": {"name": name, "text": "a test", "timezone": ZONE, "effective": effective, "base": base},
            "policy": policy or {"name": "spec"},
            "period": [{"name": n, "import": i, "credit": c} for n, i, c in prices],
            "hours": [each for each in hours if each["from"] != each["until"]],
            "holiday": [{"date": "2026-11-26", "name": "Thanksgiving Day"}],
        }
        | tables
    )
    assert not faults(file), faults(file)
    return Tariff(file=file, version=version, effective=file.effective)


def random_policy(random: Random) -> dict[str, Any]:
    """Return a policy with random settings."""
    any_of: dict[str, Any] = {
        "name": random.choice(("spec", "aces", "rangers")),
        "base_of_part_month": random.choice(("by_quarter", "whole")),
        "vacant": random.choice(("town", "occupied")),
    }
    if any_of["name"] == "rangers":
        return any_of | {"import_by": random.choice(("own", "evenly"))}
    any_of["farm"] = random.choice(("import", "equal"))
    if any_of["name"] == "aces":
        any_of |= {"off_peak": "off-peak", "credit_price": random.choice(("import", "credit"))}
        any_of |= {"step_of": random.choice(("current", "initial")), "zero_bill": random.choice(("keeps", "falls"))}
    return any_of


def random_tariffs(random: Random, month: str, policy: dict[str, Any]) -> tuple[Tariff, ...]:
    """Return versions of two tariffs, some of which begin within the month."""
    first, until = month_quarters(month, ZoneInfo(ZONE))
    found = []
    for name in ("town", "night"):
        for version in range(1, random.randint(2, 3)):
            begin = "2026-01-01"
            if version > 1:
                quarter = random.randrange(first - 50, until)
                begin = datetime.fromtimestamp(quarter * 900, UTC).isoformat()
            prices = []
            for period in ("peak", "off-peak"):
                price = f"0.{random.randrange(10**6):06d}"
                credit = price if policy["name"] == "rangers" else f"0.{random.randrange(10**6):06d}"
                prices.append((period, price, credit))
            hours = sorted(random.sample([f"{h:02d}:{m}" for h in range(1, 24) for m in ("00", "15", "30", "45")], 2))
            base = f"{random.randrange(20)}.{random.randrange(100):02d}"
            found.append(tariff(name, version, begin, base, prices, (hours[0], hours[1]), policy))
    return tuple(found)


def exact_world(inputs: RunInputs, energies: dict[Quantity, Energies]) -> World:
    """Return a month of some energies, all exact and final; a row is a meter, in the order of the registry."""
    shape = len(inputs.registry.meters), inputs.length
    settled = SettledQuarters(
        meters=np.array(list(inputs.registry.meters), np.uint64),
        first=inputs.first,
        energies=energies,
        quality=np.full(shape, 4, np.uint8),
        provisional=np.zeros(shape, np.bool_),
        version=np.ones(shape, np.int32),
    )
    return World(inputs=inputs, settled=settled)


def random_world(seed: int) -> World:
    """Return a small town: houses, a building with apartments, the public microgrid, and what happens to them."""
    random = Random(seed)
    month = random.choice(MONTHS)
    first, until = month_quarters(month, ZoneInfo(ZONE))
    policy = random_policy(random)
    meters = _meters(random, first, until)
    by_id = {m.id: m for m in meters}
    accounts = {
        number: Account(number=number, function=function, tariffs=_tariffs_of(random, first, until))
        for number, function in sorted(functions_of(by_id).items())
    }
    inputs = RunInputs(
        month=month,
        timezone=ZONE,
        registry=DatedRegistry(revision=1, meters=by_id, accounts=accounts),
        tariffs=random_tariffs(random, month, policy),
        default="town",
        bases={n: Decimal(random.randrange(2000)).scaleb(-2) for n in accounts if random.random() < 0.5},
    )
    return World(inputs=inputs, settled=_settled(random, meters, first - 8, until + 8))


def _tariffs_of(random: Random, first: Quarter, until: Quarter) -> tuple[Dated[str], ...]:
    kind = random.random()
    if kind < 0.6:
        return ()
    start = first - 100 if kind < 0.8 else random.randrange(first, until)
    return (Dated(start=start, value="night"),)


def _meters(random: Random, first: Quarter, until: Quarter) -> list[Installed]:
    found: list[Installed] = []
    numbers = iter(range(1, 1000))
    homes: list[tuple[str, str, str | None, Function]] = [("r1", f"house {n}", None, Function.HOUSE) for n in (1, 2)]
    homes += [("apt", f"apartment {n}", "building 1", Function.APARTMENT) for n in range(1, random.randint(2, 5))]
    homes += [("pub", f.value, None, f) for f in (Function.HOSPITAL, Function.POLICE, Function.FIRE)]
    for microgrid, place, building, function in homes:
        directions = [Direction.INCOMING, *([Direction.OUTGOING] if function is Function.HOUSE else [])]
        holdings = _holdings(random, numbers, first, until)
        for direction in directions:
            meter = Installed(
                id=len(found) + 1,
                microgrid=microgrid,
                place=place,
                building=building,
                function=function,
                direction=direction,
                holdings=holdings,
            )
            found += _exchanged(random, meter, len(found) + 1, first, until)
    for microgrid, place, function in (
        ("apt", "building 1", Function.BUILDING),
        ("pub", "farm", Function.SOLAR_FARM),
        ("pub", "", Function.BOUNDARY),
    ):
        meter = Installed(id=0, microgrid=microgrid, place=place, function=function, direction=Direction.OUTGOING)
        found += _exchanged(random, meter, len(found) + 1, first, until)
    return found


def _holdings(random: Random, numbers: Any, first: Quarter, until: Quarter) -> tuple[Holding, ...]:
    """Return who had a place: one account, one that leaves and another that comes, or nobody."""
    kind = random.random()
    if kind < 0.1:
        return ()
    start = first - 500 if kind < 0.8 else random.randrange(first, until)
    if kind < 0.5 or kind >= 0.8:
        return (Holding(account=next(numbers), start=start),)
    end = random.randrange(first + 1, until)
    left = Holding(account=next(numbers), start=start, end=end)
    after = end + random.choice((0, 0, 300))
    return (left, Holding(account=next(numbers), start=after)) if after < until and kind < 0.75 else (left,)


def _exchanged(random: Random, meter: Installed, number: int, first: Quarter, until: Quarter) -> list[Installed]:
    if random.random() < 0.8:
        return [replace(meter, id=number)]
    when = random.randrange(first + 1, until)
    gap = random.choice((0, 0, 2))
    return [replace(meter, id=number, end=when), replace(meter, id=number + 1, start=when + gap)]


def _settled(random: Random, meters: Sequence[Installed], first: Quarter, until: Quarter) -> SettledQuarters:
    numbers = np.random.default_rng(random.randrange(2**32))
    wanted = sorted((m for m in meters if m.function is not Function.BOUNDARY), key=lambda m: m.id)
    shape = len(wanted), until - first
    density = random.choice((0.01, 0.05))
    scale = 10 ** random.randint(1, 7)

    def some() -> Energies:
        return np.where(numbers.random(shape) < density, numbers.integers(0, scale, shape), 0)

    outgoing = np.array([m.direction is Direction.OUTGOING for m in wanted])[:, None]
    both = np.array([m.function in (Function.BUILDING, Function.SOLAR_FARM) for m in wanted])[:, None]
    quality = np.full(shape, 4, np.uint8)
    if random.random() < 0.5:
        quality[numbers.random(shape) < 0.001] = random.choice((0, 1))
    return SettledQuarters(
        meters=np.array([m.id for m in wanted], np.uint64),
        first=first,
        energies={
            Quantity.IMPORTED: some() * (~outgoing | both),
            Quantity.EXPORTED: some() * outgoing * random.choice((1, 1, 10)),
            Quantity.SHARED_IN: some() * (~outgoing | both),
            Quantity.SHARED_OUT: some() * outgoing,
        },
        quality=quality,
        provisional=numbers.random(shape) < random.choice((0, 0.001)),
        version=np.ones(shape, np.int32),
    )


def whole_town(residential: int = 800) -> tuple[DatedRegistry, list[int]]:
    """Return the town of the specification, 16,307 meters and 8,303 accounts, and its meters' ids.

    Args:
        residential: Its microgrids of houses.
    """
    meters: list[Installed] = []
    account = 0

    def add(
        microgrid: str, place: str, function: Function, *directions: Direction, building: str | None = None
    ) -> None:
        nonlocal account
        is_held = function not in (Function.BUILDING, Function.SOLAR_FARM)
        account += is_held
        holdings = (Holding(account=account, start=0),) if is_held else ()
        for direction in directions:
            meters.append(
                Installed(
                    id=len(meters) + 1,
                    microgrid=microgrid,
                    place=place,
                    building=building,
                    function=function,
                    direction=direction,
                    holdings=holdings,
                )
            )

    for microgrid in range(residential):
        for house in range(10):
            add(f"r{microgrid:03d}", f"house {house}", Function.HOUSE, Direction.INCOMING, Direction.OUTGOING)
    for building in range(3):
        add("apt", f"building {building}", Function.BUILDING, Direction.OUTGOING)
        for number in range(100):
            place = f"apartment {building}-{number:02d}"
            add("apt", place, Function.APARTMENT, Direction.INCOMING, building=f"building {building}")
    for function in (Function.HOSPITAL, Function.POLICE, Function.FIRE):
        add("public", function.value, function, Direction.INCOMING)
    add("public", "farm", Function.SOLAR_FARM, Direction.OUTGOING)
    by_id = {m.id: m for m in meters}
    accounts = {number: Account(number=number, function=of) for number, of in functions_of(by_id).items()}
    return DatedRegistry(revision=1, meters=by_id, accounts=accounts), [m.id for m in meters]


def found_in_store(monkeypatch: pytest.MonkeyPatch, world: World) -> World:
    """Return a world that runs of bills and their documents are made of until the test ends."""
    monkeypatch.setattr(billing_sources, "load_registry", lambda _: world.inputs.registry)
    monkeypatch.setattr(billing_sources, "newest_settled", lambda _: int(world.settled.version[0, 0]))
    monkeypatch.setattr(billing_sources, "settled_as_of", lambda *_: world.load)
    return world


def published(database: Database, new: Tariff, now: EpochSeconds = 0, text: str = "") -> None:
    """Propose a tariff as one person, and publish it as another."""
    with database.writes.begin() as connection:
        stored = tariffs.propose(connection, new, text, "anna", now)
        tariffs.publish(connection, stored.name, stored.version, "ben", now)


MONTH, KWH = "2026-11", 10**6


def world_of(seed: int = 0) -> World:
    """Return a town whose accounts never change; October and November are settled."""
    world = random_world(seed)
    registry = world.inputs.registry
    meters = {
        i: replace(m, start=None, end=None, holdings=tuple(replace(h, start=0, end=None) for h in m.holdings[:1]))
        for i, m in registry.meters.items()
    }
    both = RunInputs(
        month=MONTH,
        timezone=ZONE,
        registry=replace(registry, meters=meters, accounts={}),
        tariffs=(tariff(),),
        default="town",
    )
    october = replace(both, month=month_before(MONTH))
    shape = len(world.settled.meters), both.until - october.first
    energies = {q: np.zeros(shape, np.int64) for q in Quantity}
    energies[Quantity.IMPORTED] += KWH // 50
    settled = replace(
        world.settled,
        first=october.first,
        energies=energies,
        quality=np.full(shape, 4, np.uint8),
        provisional=np.zeros(shape, np.bool_),
        version=np.ones(shape, np.int32),
    )
    return World(inputs=both, settled=settled)


def late(world: World, quantity: Quantity, energy: int) -> int:
    """Change October's first quarter of a house's meter; return the house's account."""
    wanted = "incoming" if quantity is Quantity.IMPORTED else "outgoing"
    for row, meter in enumerate(world.settled.meters):
        one = world.inputs.registry.meters[int(meter)]
        if one.function == "house" and one.direction == wanted and one.holdings:
            world.settled.energies[quantity][row, 0] += energy
            return one.holdings[0].account
    raise AssertionError
