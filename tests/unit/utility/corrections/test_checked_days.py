"""From stored quarter-hours to what the checks find: use of a house, registers, stuck meters, meters that were off."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import QUARTER_S, SLOTS
from commonwatt.settlement.validation.day import Check, Limits
from commonwatt.town.town import Direction, Function
from utility.corrections.checked_days import DayOf, Judged, judged, measured_of
from utility.corrections.members import Member, Series, layout_of

FIRST = 96_000
LIMITS = Limits(reference_days=3, least_days=2)
_Array = NDArray[np.int64]


def a_member(no: int, direction: Direction, types: set[int], function: Function = Function.HOUSE) -> Member:
    return Member(no=no, id=100 + no, location="house 1", function=function, direction=direction,
                  record_types=frozenset(types), capacity=None)  # fmt: skip


HOUSE = [a_member(1, Direction.OUTGOING, {1, 2, 3}), a_member(2, Direction.INCOMING, {3})]
FOREIGN = [a_member(3, Direction.INCOMING, {3, 4}, Function.FOREIGN)]


def rows(series: Series, totals: _Array, last: _Array | None = None, *, noise: int = 1) -> _Array:
    """Return a day's rows of a series, with the quarter before it; slots differ by ``noise``."""
    count = len(totals)
    columns = [
        np.full(count, series[0]),
        np.full(count, series[1]),
        FIRST - 1 + np.arange(count),
        totals,
        np.full(count, SLOTS),
        totals // SLOTS,
        totals // SLOTS + noise,
        totals if last is None else last,
    ]
    return np.stack(columns, axis=1).astype(np.int64)


def flat(energy: int) -> _Array:
    return np.full(97, energy, np.int64)


def found(members: list[Member], tables: list[_Array], **known: object) -> Judged:
    began = {(m.no, kind): FIRST for m in members for kind in m.record_types}
    measured = measured_of(np.concatenate(tables), FIRST)
    fields: dict[str, object] = {"first": FIRST, "measured": measured, "began": began} | known
    return judged(members, layout_of(members), DayOf(**fields), LIMITS)  # type: ignore[arg-type]


def checks(result: Judged) -> set[tuple[int, Check]]:
    return {(one.meter, one.check) for one in result.findings}


def house(incoming: int = 900, charge: int = 300) -> list[_Array]:
    level = 10_000 + charge * np.arange(97)
    return [
        rows((1, 1), flat(600)),
        rows((1, 2), flat(0), level),
        rows((1, 3), flat(100)),
        rows((2, 3), flat(incoming)),
    ]


def test_use_of_a_house_is_judged_under_its_incoming_meter() -> None:
    result = found(HOUSE, house())
    assert result.ordinary == {(1, 1): 96 * 600, (2, 3): 96 * (900 + 600 - 100 - 300)}
    usual = {(2, 3): [96 * 1_100] * 3}
    assert checks(found(HOUSE, house(), before=usual)) == set()
    assert checks(found(HOUSE, house(incoming=5_000), before=usual)) == {(102, Check.HIGH)}
    # A battery that discharges what its level does not show makes the use too low.
    assert checks(found(HOUSE, house(charge=1_190), before=usual)) == {(102, Check.LOW)}


def test_use_goes_on_under_the_meter_that_replaces_another_one() -> None:
    outgoing, old = HOUSE
    new = replace(old, no=4, id=104, since=FIRST + 40)
    members = [outgoing, replace(old, until=FIRST + 40), new]
    until, since = np.arange(97) < 41, np.arange(97) >= 41
    tables = [*house()[:3], house()[3][until], rows((4, 3), flat(900))[since]]
    result = found(members, tables)
    assert checks(result) == set(), "neither has a gap"
    assert result.ordinary[4, 3] == 96 * (900 + 600 - 100 - 300)
    late = found(members, [*tables[:3], house()[3][np.arange(97) < 39], tables[4]])
    assert checks(late) == {(102, Check.GAP)}, "a gap before the exchange is one"


def test_gap_of_one_series_leaves_the_day_out() -> None:
    tables = house()
    tables[1] = tables[1][np.arange(97) != 40]
    result = found(HOUSE, tables, before={(2, 3): [1] * 3})
    assert set(result.ordinary) == {(1, 1)}
    assert checks(result) == set(), "a level is no energy; its gap is requested all the same"


def test_gap_is_found_unless_the_meter_was_off_or_not_there_yet() -> None:
    tables = [rows((3, 3), flat(60))[np.arange(97) != 50], rows((3, 4), flat(0), 60 * np.arange(97))]
    assert checks(found(FOREIGN, tables)) == {(103, Check.GAP)}
    off = [((FIRST + 49) * QUARTER_S, (FIRST + 50) * QUARTER_S)]
    assert checks(found(FOREIGN, tables, off={3: off})) == set()
    assert checks(found(FOREIGN, tables, began={(3, 3): FIRST + 60})) == set()


def test_register_is_compared_over_the_day() -> None:
    steps = np.arange(97)
    tables = [rows((3, 3), flat(60_000)), rows((3, 4), flat(0), 60_000 * steps)]
    assert checks(found(FOREIGN, tables)) == set()
    tables[1] = rows((3, 4), flat(0), 70_000 * steps)
    [one] = found(FOREIGN, tables).findings
    assert (one.check, one.figure, one.threshold) == (Check.REGISTER, -960_000, 100_000)
    tables[1] = rows((3, 4), flat(0), -steps)
    assert checks(found(FOREIGN, tables)) == set(), "a register that was exchanged tells nothing"


def test_stuck_reading_is_found_in_what_the_meter_sent() -> None:
    tables = [rows((3, 3), flat(60_000), noise=0)]
    [one] = found(FOREIGN, tables).findings
    assert (one.check, one.figure, one.first, one.until) == (Check.STUCK, 96, FIRST, FIRST + 96)


def test_day_of_an_outage_is_not_kept_as_ordinary() -> None:
    outages = {0: [(FIRST * QUARTER_S, FIRST * QUARTER_S + 60)]}
    assert found(HOUSE, house(), outages=outages).ordinary == {}
    assert found(HOUSE, [np.zeros((0, 8), np.int64)], began={}).findings == []
