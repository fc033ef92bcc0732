"""What a household sees of itself: energies are those of its meters while it had them, and of nobody else's time."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.model.blocks import Blocks, make_blocks
from commonwatt.model.records import RecordType
from commonwatt.model.time.times import parse_time
from commonwatt.settlement.settled import Quantity, SettledQuality, SettledQuarters
from commonwatt.town.town import Direction
from utility.exports.holdings import Held
from utility.households.course import Recording, course_of, figures_of
from utility.households.shared import by_day, settled_until, together
from utility.jobs.calendar_periods import NEW_YORK

FIRST = parse_time("2026-10-31", "", NEW_YORK) // 900
OUT, IN = 10001, 10002
KINDS = {OUT: frozenset({RecordType.GENERATION, RecordType.STORED, RecordType.THROUGH}), IN: {RecordType.THROUGH}}


def blocks_of(first: int, end: int, seed: int, missing: float = 0.0) -> Blocks:
    rng = np.random.default_rng(seed)
    keys = [
        (meter, int(kind), quarter) for meter in KINDS for kind in sorted(KINDS[meter]) for quarter in range(first, end)
    ]
    shape = len(keys), 60
    there = np.repeat(rng.random(len(keys)) >= missing, 60).reshape(shape)
    return make_blocks(keys, rng.integers(0, 1000, shape), np.where(there, 2, 0))


def recordings(start: int, end: int) -> list[Recording]:
    directions = {OUT: Direction.OUTGOING, IN: Direction.INCOMING}
    return [
        Recording(held=Held(meter=m, direction=directions[m], first=start, end=end), kinds=frozenset(KINDS[m]))
        for m in KINDS
    ]


def value(blocks: Blocks, meter: int, kind: RecordType, quarter: int) -> np.ndarray | None:
    rows = (blocks.meter == meter) & (blocks.record_type == kind) & (blocks.quarter == quarter)
    (row,) = np.flatnonzero(rows)
    return None if not blocks.quality[row].any() else blocks.values[row]


@given(
    seed=st.integers(0, 999), moved=st.integers(-5, 12), leaves=st.integers(3, 20), missing=st.sampled_from([0, 0.2])
)
def test_course_is_that_of_the_meters_while_the_account_had_them(
    seed: int, moved: int, leaves: int, missing: float
) -> None:
    start, end = FIRST + moved, FIRST + moved + leaves
    blocks = blocks_of(FIRST - 1, FIRST + 10, seed, missing)
    course = course_of(blocks, recordings(start, end), FIRST, FIRST + 10)
    for n, quarter in enumerate(range(FIRST, FIRST + 10)):
        found = [value(blocks, IN, RecordType.THROUGH, quarter), value(blocks, OUT, RecordType.THROUGH, quarter)]
        found.append(value(blocks, OUT, RecordType.GENERATION, quarter))
        if not start <= quarter < end:
            found = [None] * 3
        taken, given_, solar = (0 if each is None else int(each.sum()) for each in found)
        assert (course.taken.energy[n], course.given.energy[n], course.solar.energy[n]) == (taken, given_, solar)
        level, before = (
            value(blocks, OUT, RecordType.STORED, quarter),
            value(blocks, OUT, RecordType.STORED, quarter - 1),
        )
        is_known = start < quarter < end and None not in [*map(type, found)] and all(f is not None for f in found)
        if is_known and level is not None and before is not None:
            assert course.use.is_whole[n]
            assert course.use.energy[n] == solar + taken - given_ - int(level[-1] - before[-1])
        else:
            assert not course.use.is_whole[n], "a gap, or the level of the one before, is no use of ours"
            assert course.use.energy[n] == course.use.slots[n] == 0, "half of the sum would be a lie"


def test_newest_level_is_the_last_slot_of_a_battery_that_is_still_there() -> None:
    blocks = blocks_of(FIRST - 1, FIRST + 3, 1)
    course = course_of(blocks, recordings(FIRST, FIRST + 99), FIRST, FIRST + 10)
    assert course.newest is not None
    assert course.newest.time == (FIRST + 3) * 900
    level = value(blocks, OUT, RecordType.STORED, FIRST + 2)
    assert level is not None
    assert course.newest.energy == level[-1]
    gone = course_of(blocks, recordings(FIRST, FIRST + 2), FIRST, FIRST + 10)
    assert gone.newest is None, "the next household's battery is not ours"


def test_sums_say_how_much_of_their_time_has_readings() -> None:
    course = course_of(blocks_of(FIRST - 1, FIRST + 6, 2), recordings(FIRST, FIRST + 99), FIRST, FIRST + 10)
    assert course.until == FIRST + 6
    whole, part, none = (figures_of(course, FIRST + a, FIRST + b) for a, b in ((1, 6), (0, 8), (6, 10)))
    assert whole.used is not None
    assert whole.used.permille == 1000
    assert whole.used.energy == course.use.energy[1:6].sum()
    assert part.taken is not None
    assert (part.taken.energy, part.taken.permille) == (course.taken.energy.sum(), 750)
    assert none.taken is not None
    assert none.taken.energy is None, "nothing has come yet: no zero"
    empty = course_of(blocks_of(FIRST - 1, FIRST + 6, 2), [], FIRST, FIRST + 10)
    assert (figures_of(empty, FIRST, FIRST + 6).all, empty.until, empty.newest) == ([], None, None)


def settled(days: int, seed: int) -> SettledQuarters:
    rng = np.random.default_rng(seed)
    shape = 2, days * 96 + 4
    return SettledQuarters(
        meters=np.array([OUT, IN], np.uint64),
        first=FIRST,
        energies={quantity: rng.integers(0, 9, shape) for quantity in Quantity},
        quality=rng.integers(0, 5, shape).astype(np.uint8),
        provisional=np.zeros(shape, np.bool_),
        version=(np.arange(shape[1]) < shape[1] - 30).astype(np.int32) * np.ones(shape, np.int32),
    )


@given(seed=st.integers(0, 99), moved=st.integers(-3, 250))
def test_settled_days_add_up_and_begin_with_the_move(seed: int, moved: int) -> None:
    found = settled(3, seed)
    end = FIRST + found.quality.shape[1]
    held = [one.held for one in recordings(FIRST + moved, end)]
    days = by_day(found, held, NEW_YORK)
    assert [day.start for day in days] == [(FIRST + n) * 900 for n in (0, 96, 196)], "1 November has 25 hours"
    assert [day.expected for day in days if day.start + 100 * 900 < (FIRST + moved) * 900] == [0] * sum(
        day.start + 100 * 900 < (FIRST + moved) * 900 for day in days
    )
    whole, columns = together(days, 0), slice(max(0, moved), found.quality.shape[1] - 30)
    for name, quantity in (
        ("got", Quantity.SHARED_IN),
        ("given", Quantity.SHARED_OUT),
        ("imported", Quantity.IMPORTED),
    ):
        assert getattr(whole, name) == found.energies[quantity][:, columns].sum()
    assert whole.estimated == (found.quality[:, columns] <= SettledQuality.ESTIMATED).sum()
    assert settled_until(found, held) == end - 30
    assert settled_until(found, []) is None
