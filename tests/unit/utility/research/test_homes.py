"""From the dated registry and meters' readings to homes: moves, exchanges, missing readings."""

from dataclasses import replace

import numpy as np
import pytest

from commonwatt.model.records import RecordType
from commonwatt.town.town import Direction, Function
from utility.registry.accounts import DatedRegistry, Holding, Installed
from utility.research.assembling import Assembly
from utility.research.coarsening import Coarsening, coarsened, sampled
from utility.research.homes import Home, Homes, Measure, homes_of, meters_of

FIRST, UNTIL = 1000, 1004
GENERATION, STORED, THROUGH = int(RecordType.GENERATION), int(RecordType.STORED), int(RecordType.THROUGH)


def installed(
    number: int,
    direction: Direction,
    place: str = "house 1",
    *,
    start: int | None = None,
    end: int | None = None,
    holdings: tuple[Holding, ...] = (Holding(account=7, start=0),),
    function: Function = Function.HOUSE,
) -> Installed:
    return Installed(
        id=number,
        microgrid="r1",
        place=place,
        function=function,
        direction=direction,
        capacity=10**6 if direction is Direction.OUTGOING else None,
        start=start,
        end=end,
        holdings=holdings,
    )


def registry(*meters: Installed) -> DatedRegistry:
    return DatedRegistry(revision=1, meters={meter.id: meter for meter in meters})


def assembled(found: DatedRegistry, readings: dict[tuple[int, int, int], int]) -> Homes:
    homes, meters = homes_of(found, FIRST, UNTIL)
    assembly = Assembly(homes, meters, FIRST, UNTIL, 900)
    keys = sorted(readings)
    assembly.add(
        np.array([key[0] for key in keys], np.uint64),
        np.array([key[1] for key in keys]),
        np.array([key[2] for key in keys]),
        np.array([[readings[key]] for key in keys]),
        np.ones((len(keys), 1), np.bool_),
    )
    return assembly.homes()


def test_homes_of_a_period_have_one_account_during_it() -> None:
    moved = (Holding(account=1, start=0, end=1002), Holding(account=2, start=1002))
    left = (Holding(account=1, start=0, end=FIRST), Holding(account=3, start=FIRST))
    homes, meters = homes_of(
        registry(
            installed(1, Direction.INCOMING, "moved in between", holdings=moved),
            installed(2, Direction.INCOMING, "moved before", holdings=left),
            installed(3, Direction.INCOMING, "vacant", holdings=()),
            installed(4, Direction.INCOMING, "gone", end=FIRST),
            installed(5, Direction.INCOMING, "hospital", function=Function.HOSPITAL),
        ),
        FIRST,
        UNTIL,
    )
    assert homes == (Home(microgrid="r1", place="moved before", account=3, function=Function.HOUSE),)
    assert [meter.id for meter in meters] == [2]
    assert meters_of(meters, [5]) == []


def test_use_follows_from_what_the_meters_and_the_battery_say() -> None:
    pair = registry(installed(1, Direction.OUTGOING), installed(2, Direction.INCOMING))
    readings = {(1, STORED, FIRST - 1): 500}
    for quarter, (generated, given, stored, taken) in enumerate([(90, 10, 540, 0), (0, 0, 500, 30), (0, 0, 500, 8)]):
        readings |= {
            (1, GENERATION, FIRST + quarter): generated,
            (1, THROUGH, FIRST + quarter): given,
            (1, STORED, FIRST + quarter): stored,
            (2, THROUGH, FIRST + quarter): taken,
            (99, THROUGH, FIRST + quarter): 12345,
        }
    homes = assembled(pair, readings)
    assert homes.known.tolist() == [[True, True, True, False]]
    assert homes.values[Measure.USED].tolist() == [[40, 70, 8, 0]]
    assert homes.values[Measure.GENERATED].tolist() == [[90, 0, 0, 0]]
    del readings[1, STORED, FIRST + 1]
    assert assembled(pair, readings).known.tolist() == [[True, False, False, False]]


@pytest.mark.parametrize("day", [0, 1, 2])
def test_a_day_of_a_longer_period_is_whole(day: int) -> None:
    homes, meters = homes_of(registry(installed(1, Direction.OUTGOING)), FIRST, FIRST + 3 * 96)
    first = FIRST + day * 96
    assembly = Assembly(homes, meters, first, first + 96, 15)
    quarters = np.arange(first - 1, first + 96)
    for kind, value in ((GENERATION, 7), (STORED, 50), (THROUGH, 2)):
        values = np.full((97, 60), value)
        assembly.add(np.full(97, 1, np.uint64), np.full(97, kind), quarters, values, np.ones(values.shape, np.bool_))
    found = assembly.homes()
    assert found.known.all()
    assert (found.values[Measure.USED] == 5).all()


def test_an_exchanged_meter_carries_its_home_on() -> None:
    both = registry(installed(1, Direction.INCOMING, end=1002), installed(2, Direction.INCOMING, start=1002))
    readings = {(1, THROUGH, q): 5 for q in (1000, 1001)} | {(2, THROUGH, q): 6 for q in (1002, 1003)}
    homes = assembled(both, readings)
    assert homes.known.all()
    assert homes.values[Measure.USED].tolist() == [[5, 5, 6, 6]]
    assert not assembled(both, {(1, THROUGH, q): 5 for q in range(FIRST, UNTIL)}).known[0, 2:].any()


@pytest.mark.parametrize(
    ("spans", "is_home"),
    [
        ([(None, None)], True),
        ([(FIRST, UNTIL)], True),
        ([(None, 1002), (1002, None)], True),
        ([(None, 1003), (1002, None)], True),
        ([(1002, None)], False),
        ([(None, 1002)], False),
        ([(None, 1001), (1002, None)], False),
    ],
    ids=["always", "just then", "exchanged", "twice for a while", "came late", "left early", "a gap"],
)
@pytest.mark.parametrize("direction", list(Direction))
def test_a_place_without_a_meter_for_a_while_is_no_home_that_used_nothing(
    direction: Direction, spans: list[tuple[int | None, int | None]], is_home: bool
) -> None:
    other = Direction.INCOMING if direction is Direction.OUTGOING else Direction.OUTGOING
    meters = [installed(n, direction, start=start, end=end) for n, (start, end) in enumerate(spans, 1)]
    homes, _ = homes_of(registry(installed(9, other), *meters), FIRST, UNTIL)
    assert bool(homes) is is_home


def test_longer_steps_begin_at_multiples_and_need_all_their_parts() -> None:
    homes = assembled(
        registry(installed(1, Direction.INCOMING)), {(1, THROUGH, q): q - FIRST + 1 for q in (1001, 1002, 1003)}
    )
    halves = homes.in_steps(1800)
    assert halves.start == FIRST * 900
    assert (halves.values[Measure.USED].tolist(), halves.known.tolist()) == ([[2, 7]], [[False, True]])
    assert homes.take([]).known.shape == (0, 4)


def test_coarser_readings_keep_what_they_should() -> None:
    count, steps = 40, 192
    random = np.random.default_rng(1)
    values = {measure: random.integers(0, 10**6, (count, steps)) for measure in Measure}
    names = tuple(Home(microgrid="r", place=str(n), account=n + 1, function=Function.HOUSE) for n in range(count))
    homes = Homes(homes=names, start=0, step_s=900, values=values, known=np.ones((count, steps), np.bool_))
    some = sampled(homes, Coarsening(sample_percent=25), random)
    assert len(some.homes) == 10
    assert len(sampled(homes, Coarsening(sample_percent=1), random).homes) == 1
    rounded = coarsened(homes, Coarsening(unit_wh=100), random).values[Measure.USED]
    assert not (rounded % 100_000).any()
    assert np.abs(rounded - values[Measure.USED]).max() <= 50_000
    hours = coarsened(homes, Coarsening(step_s=3600), random)
    assert hours.values[Measure.TAKEN].sum() == values[Measure.TAKEN].sum()
    shuffled = coarsened(homes, Coarsening(shuffled=True), random).values[Measure.USED].reshape(count, 2, 96)
    days = values[Measure.USED].reshape(count, 2, 96)
    same = (shuffled == days).all(axis=(1, 2))
    assert 0 < same.sum() < count
    assert (shuffled[~same] == days[~same][:, ::-1]).all()
    noisy = coarsened(homes, Coarsening(noise_wh=10), random).values[Measure.USED] - values[Measure.USED]
    assert 9_000 < noisy.std() < 11_000
    with pytest.raises(ValueError, match="whole days"):
        coarsened(replace(homes, start=900), Coarsening(shuffled=True), random)
