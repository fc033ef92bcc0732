"""Validation and corrections on real databases: what is found, proposed, decided, and what settlement then takes."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, update

from commonwatt.codec.packing import pack
from commonwatt.model.blocks import Blocks, make_blocks
from commonwatt.model.calendar import iso
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOTS
from harness.commands import shown, typed
from harness.surroundings import databases
from harness.surroundings.messages import append
from utility.access.people import on_machine
from utility.assembly.metrics import UtilityMetrics
from utility.corrections import jobs as validation
from utility.corrections.correction import STEPS, CorrectionState, Review
from utility.corrections.decisions import Edit, edit
from utility.corrections.estimates import Method
from utility.corrections.jobs import validate
from utility.corrections.store.checking import open_findings
from utility.corrections.store.corrections import (
    ChosenCorrections,
    Corrections,
    StepBy,
    add,
    decide,
    found,
    newest_step,
    overlay,
    propose,
    steps_of,
    take_changed,
)
from utility.corrections.tables import correction, finding
from utility.corrections.validation import CheckLimits
from utility.database.database import Database
from utility.energy.quarters import SettledQuality, applied
from utility.jobs.plans import HERE, Period
from utility.jobs.store import Turn
from utility.outbox.changes import Append
from utility.readings.store import reads
from utility.readings.store.compactor import Compactor
from utility.readings.store.writer import Writer
from utility.readings.tables import gap, series
from utility.registry.tables import installed

DAY = 20_500  # a UTC day in February 2026, a Monday

FIRST = DAY * 96
NOW = (DAY + 1) * 86_400 + 8 * 3600
OUT, INTO, OTHER_OUT, OTHER, BOUNDARY_OUT, BOUNDARY_IN = range(10001, 10007)
LIMITS = CheckLimits(reference_days=3, least_days=2)
ANNA = StepBy(person="anna", time=NOW, why="as on the paper")
LATE = FIRST + 40  # first quarter without readings of both of a house's meters


def energy(meter: int, quarter: int) -> int:
    """Return what a meter reads in each slot of a quarter."""
    return {
        INTO: 1_000 + 10 * (quarter % 96),
        OTHER: 700 + quarter % 7,
        BOUNDARY_IN: 1_700 + 10 * (quarter % 96) + quarter % 7,
    }.get(meter, 0)


def readings(quarters: range, meters: tuple[int, ...], gone: range = range(0)) -> Blocks:
    """Return the readings of some meters; those of the house at ``INTO`` are missing in the quarters ``gone``.

    No sun, and empty batteries.
    """
    series = [(meter, kind) for meter in meters for kind in ((1, 2, 3) if meter in (OUT, OTHER_OUT) else (3,))]
    keys = [(*each, q) for each in series for q in quarters if q not in gone or each[0] not in (OUT, INTO)]
    values = [
        [energy(meter, quarter) + slot % 2 * (meter in (OTHER, BOUNDARY_IN)) for slot in range(SLOTS)]
        for meter, _, quarter in keys
    ]
    return make_blocks(keys, values, np.full((len(keys), SLOTS), 2))


def store(database: Database, blocks: Blocks, now: int = NOW) -> None:
    made = append(blocks, sender="r001", received=now)
    Writer(database).commit([Append(**{**vars(made), "owner": "r001", "payloads": pack(blocks)})])
    compactor = Compactor(database)
    while (replacement := compactor.plan(now)) is not None:
        compactor.apply(replacement)


def missing(database: Database, meters: dict[int, int], quarters: range) -> None:
    """Note gaps whose gateway answered that it has no such reading."""
    full = (1 << SLOTS) - 1
    same = {"mask": full, "absent": full, "asked": 1, "next_time": 0, "is_open": False, "touched": 0}
    rows = [
        {"meter_no": number, "record_type": kind, "quarter": quarter, **same}
        for meter, number in meters.items()
        for kind in ((1, 2, 3) if meter == OUT else (3,))
        for quarter in quarters
    ]
    with database.writes.begin() as connection:
        connection.execute(gap.insert(), rows)


def numbers(database: Database, *meters: int) -> dict[int, int]:
    with database.reads.begin() as connection:
        return {meter: reads.meter_number(connection, meter) or 0 for meter in meters}


def run(database: Database, now: int = NOW, *, is_trusted: bool = True) -> UtilityMetrics:
    metrics = UtilityMetrics()
    turn = Turn(job="validation", period=Period(start=now, end=now + 1, name="now"), attempt=1, now=now)
    asyncio.run(validate(database, metrics.corrections, HERE, lambda: is_trusted, turn, LIMITS))
    return metrics


def metric(metrics: UtilityMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"commonwatt_utility_{name}", labels)


def a_correction(
    database: Database, value: int = 5, quarter: int = FIRST, method: Method = Method.BALANCE
) -> Corrections:
    [number] = numbers(database, INTO).values()
    quality = np.zeros((1, SLOTS), np.uint8)
    quality[0, :10] = 2
    return Corrections(
        blocks=make_blocks([(INTO, 3, quarter)], np.full((1, SLOTS), value), quality),
        number=np.array([number]),
        owner=np.array([1]),
        method=np.array([method], np.uint8),
    )


def in_force(database: Database, quarter: int = FIRST) -> tuple[list[int], list[int]]:
    with database.reads.begin() as connection:
        made = overlay(connection, [INTO, OUT], quarter, quarter + 1)
    result = applied(readings(range(0), ()), made)
    return [int(v) for v in result.values.sum(axis=1)], sorted({int(q) for q in result.quality.ravel()})


def test_a_clock_that_was_ahead_keeps_no_day_from_being_checked(database: Database) -> None:
    def gaps() -> set[int]:
        with database.reads.begin() as connection:
            return {row.start // 86_400 for row in open_findings(connection, 100)}

    store(database, readings(range(FIRST - 1, FIRST + 96), (OUT, INTO), gone=range(LATE, LATE + 3)))
    run(database, NOW + 40 * 86_400, is_trusted=False)
    assert gaps() == set()
    run(database, NOW + 40 * 86_400)
    run(database)
    assert DAY in gaps()


@databases.on_both_kinds
def test_estimate_counts_from_its_approval_until_it_is_taken_back(database: Database) -> None:
    with database.writes.begin() as connection:
        assert propose(connection, a_correction(database), NOW) == 1
        assert propose(connection, a_correction(database), NOW) == 0, "its slots have a proposal"
    assert in_force(database) == ([], [])
    chosen = ChosenCorrections(first=FIRST, until=FIRST + 1, method=Method.BALANCE)
    with database.writes.begin() as connection:
        assert take_changed(connection) == set(), "a proposal changes nothing"
        decide(connection, chosen, Review.APPROVE, ANNA)
        assert take_changed(connection) == {(DAY, 1)}
        assert take_changed(connection) == set()
        assert newest_step(connection) == 2
    assert in_force(database) == ([50], [SettledQuality.MISSING, SettledQuality.ESTIMATED])
    with database.writes.begin() as connection:
        decide(connection, chosen, Review.REVERT, ANNA)
        [row] = found(connection, ChosenCorrections(), list(CorrectionState), 9)
        steps = [(s.person, s.state_before, s.state_after, s.why) for s in steps_of(connection, [row.no])]
    assert in_force(database) == ([], [])
    assert steps == [
        ("", "", "proposed", ""),
        ("anna", "proposed", "approved", "as on the paper"),
        ("anna", "approved", "proposed", "as on the paper"),
    ]
    assert row.version == 1


@databases.on_both_kinds
def test_value_of_a_person_counts_before_estimates_until_it_is_taken_back(database: Database) -> None:
    with database.writes.begin() as connection:
        add(connection, a_correction(database, 9, method=Method.EDIT), CorrectionState.EDITED, ANNA)
        propose(connection, a_correction(database, 5, FIRST + 1), NOW)
        decide(connection, ChosenCorrections(first=FIRST + 1), Review.APPROVE, ANNA)
        add(connection, a_correction(database, 6, FIRST + 1, Method.EDIT), CorrectionState.EDITED, ANNA)
    assert in_force(database) == ([90], [SettledQuality.MISSING, SettledQuality.EDITED])
    assert in_force(database, FIRST + 1)[0] == [60]
    with database.writes.begin() as connection:
        decide(connection, ChosenCorrections(first=FIRST + 1, method=Method.BALANCE), Review.REVERT, ANNA)
        assert [
            row.version for row in found(connection, ChosenCorrections(first=FIRST + 1), list(CorrectionState), 9)
        ] == [1, 2]
    assert in_force(database, FIRST + 1)[0] == [60]
    with database.writes.begin() as connection:
        add(connection, a_correction(database, 1, FIRST + 95, Method.EDIT), CorrectionState.EDITED, ANNA)
        assert take_changed(connection) == {(DAY, 1), (DAY + 1, 1)}, "its last level is the next day's first"


def test_illegal_step_is_named_and_changes_nothing(database: Database) -> None:
    with database.writes.begin() as connection:
        add(connection, a_correction(database), CorrectionState.EDITED, ANNA)
        for action, told in ((Review.APPROVE, "edited, by anna, .*; approve needs"), (Review.REFUSE, "edited")):
            with pytest.raises(ConfigError, match=told):
                decide(connection, ChosenCorrections(), action, ANNA)
        with pytest.raises(ConfigError, match="none was chosen"):
            decide(connection, ChosenCorrections(first=FIRST + 9), Review.REVERT, ANNA)
        [row] = found(connection, ChosenCorrections(), list(CorrectionState), 9)
    assert row.state == "edited"
    assert set(STEPS.values()) <= set(CorrectionState)


def test_damaged_correction_is_never_settled_silently(database: Database) -> None:
    with database.writes.begin() as connection:
        add(connection, a_correction(database), CorrectionState.EDITED, ANNA)
        connection.execute(update(correction).values(payload=b"\x00\x01"))
        with pytest.raises(StoreError, match="correction 1 is damaged; revert it"):
            overlay(connection, None, FIRST, FIRST + 1)


@databases.on_both_kinds
def test_gap_of_one_place_is_found_estimated_exactly_and_proposed_once(database: Database) -> None:
    gone = range(LATE, LATE + 12)
    every = (OUT, INTO, OTHER_OUT, OTHER, BOUNDARY_IN, BOUNDARY_OUT)
    store(database, readings(range(FIRST - 1, FIRST + 97), every, gone))
    missing(database, numbers(database, OUT, INTO), gone)
    metrics = run(database)
    assert metric(metrics, "open_findings", check="gap") == 3, "generation too, which is not estimated"
    assert metric(metrics, "open_findings", check="high") == 0
    assert metric(metrics, "proposed_corrections") == 24
    with database.writes.begin() as connection:
        rows = found(connection, ChosenCorrections(), [CorrectionState.PROPOSED], 99)
        assert {row.method for row in rows} == {Method.BALANCE}
        decide(connection, ChosenCorrections(), Review.APPROVE, ANNA)
        made = overlay(connection, [INTO, OUT], gone.start, gone.stop)
    assert made.blocks.values[made.blocks.meter == INTO].tolist() == readings(gone, (INTO,)).values.tolist()
    with database.writes.begin() as connection:
        decide(connection, ChosenCorrections(), Review.REVERT, ANNA)
        decide(connection, ChosenCorrections(), Review.REFUSE, ANNA)
    run(database, NOW + 86_400)
    with database.reads.begin() as connection:
        assert found(connection, ChosenCorrections(), [CorrectionState.PROPOSED], 99) == [], (
            "what was refused is not proposed again"
        )


@pytest.mark.parametrize(("step", "blocks"), [("save", 1_000), ("propose", 1_000), ("propose", 1), ("_done", 1_000)])
def test_job_that_is_killed_at_a_step_finds_and_proposes_everything_once(
    database: Database, monkeypatch: pytest.MonkeyPatch, step: str, blocks: int
) -> None:
    monkeypatch.setattr(validation, "BLOCKS_AT_A_TIME", blocks)
    gone = range(LATE, LATE + 2)
    every = (OUT, INTO, OTHER_OUT, OTHER, BOUNDARY_IN, BOUNDARY_OUT)
    store(database, readings(range(FIRST - 1, FIRST + 97), every, gone))
    missing(database, numbers(database, OUT, INTO), gone)
    whole = Database.write

    def killed(self: Database, work: Callable[..., Any], *arguments: Any) -> Any:
        done = whole(self, work, *arguments)
        if work.__name__ == step:
            raise KeyboardInterrupt
        return done

    with monkeypatch.context() as patched:
        patched.setattr(Database, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            run(database)
    with database.reads.begin() as connection:
        half = 2 if blocks == 1 else 4
        assert newest_step(connection) == {"save": 0, "propose": half, "_done": 4}[step], "a quarter is whole"
    metrics = run(database)
    assert metric(metrics, "open_findings", check="gap") == 3
    assert metric(metrics, "proposed_corrections") == 4
    with database.reads.begin() as connection:
        assert newest_step(connection) == 4


def test_meter_that_was_removed_has_no_gap_and_no_estimate(database: Database) -> None:
    with database.writes.begin() as connection:
        connection.execute(update(installed).where(installed.c.meter == INTO).values(until=FIRST + 8))
    for day in (-4, -3, 0):
        store(database, readings(range(FIRST + day * 96, FIRST + day * 96 + 96), (INTO,), range(FIRST + 8, FIRST + 96)))
    missing(database, numbers(database, INTO), range(FIRST + 8, FIRST + 88))
    run(database)
    with database.reads.begin() as connection:
        assert found(connection, ChosenCorrections(), list(CorrectionState), None) == []
        assert [row for row in open_findings(connection, 10) if row.check == "gap"] == []
    start, end = (str((FIRST + quarter) * QUARTER_S) for quarter in (20, 24))
    value = Edit(meter=str(INTO), start=start, until=end, energy_kwh="1", why="by hand")
    with pytest.raises(ConfigError, match="was not in its place then"):
        edit(database, value, on_machine("anna"), NOW)


@pytest.mark.parametrize(
    ("scanned_until", "days", "is_open"),
    [(LATE + 2, 1, False), (LATE + 1, 1, True), (None, 1, True), (LATE + 2, 181, True)],
)
def test_finding_of_a_gap_is_closed_when_its_readings_come(
    database: Database, scanned_until: int | None, days: int, is_open: bool
) -> None:
    """Not while the search for gaps has not come to it, nor when the gap is given up."""
    gone = range(LATE, LATE + 2)
    store(database, readings(range(FIRST - 1, FIRST + 97), (INTO,), gone))
    missing(database, numbers(database, INTO), gone)
    assert metric(run(database), "open_findings", check="gap") == 1
    with database.writes.begin() as connection:
        connection.execute(gap.delete())
        connection.execute(update(series).values(scanned_from=FIRST - 1, scanned_until=scanned_until))
    run(database, NOW + days * 86_400)
    with database.reads.begin() as connection:
        assert bool([row for row in open_findings(connection, 99) if row.start == LATE * QUARTER_S]) == is_open


def test_day_far_above_the_days_before_is_found_once(database: Database) -> None:
    for day in range(4):
        quarters = range(FIRST + day * 96 - (day == 0), FIRST + day * 96 + 96)
        blocks = readings(quarters, (OTHER_OUT, OTHER))
        high = blocks.values * (6 if day == 3 else 1)
        now = (DAY + day + 1) * 86_400 + 8 * 3600
        store(database, make_blocks(blocks.keys(), high, blocks.quality), now)
        for _ in range(2):
            metrics = run(database, now)
        assert metric(metrics, "open_findings", check="high") == (day == 3)
    with database.reads.begin() as connection:
        [one] = open_findings(connection, 9)
    assert (one.meter, one.check, one.figure, one.threshold) == (str(OTHER), "high", 599, 400)
    assert one.start == (FIRST + 3 * 96) * QUARTER_S


@databases.on_both_kinds
def test_a_finding_of_2040_is_listed(kind: str, database: Database) -> None:
    first = 2_211_000_000 // QUARTER_S
    row = {
        "meter_no": numbers(database, INTO)[INTO],
        "record_type": 3,
        "check_name": "gap",
        "figure": 1,
        "threshold": 1,
    }
    with database.writes.begin() as connection:
        connection.execute(
            finding.insert().values(row | {"first_quarter": first, "until_quarter": first + 1, "found": NOW})
        )
        (one,) = open_findings(connection, 9)
    assert (one.start, one.until) == (first * QUARTER_S, (first + 1) * QUARTER_S)


@pytest.fixture
def do(config: Path, database: Database) -> Callable[..., str]:
    """Type ``commonwatt do``, which must exit with ``code``; return its output."""
    return partial(typed, config, database, "do")


@pytest.fixture
def estimates(database: Database) -> None:
    """A day of a house without readings, of which like days are known: proposed, not decided."""
    for day in (-4, -3, 0):
        store(database, readings(range(FIRST + day * 96, FIRST + day * 96 + 96), (INTO,), range(FIRST + 8, FIRST + 88)))
    missing(database, numbers(database, INTO), range(FIRST + 8, FIRST + 88))
    run(database)


@pytest.mark.usefixtures("estimates")
def test_person_lists_approves_and_takes_back(do: Callable[..., str], config: Path) -> None:
    [row] = shown(config, "corrections")["corrections"]
    # Until 5:00 UTC it was Sunday in the town, and no other Sunday is known.
    assert (row["meter"], row["method"], row["state"], row["minutes"]) == (str(INTO), "like-days", "proposed", 1020)
    chosen = f"chosen.meters={INTO}", "chosen.start=2026-02-16", "chosen.until=2026-02-17"
    told = do("corrections/decide", "action=approve", *chosen, "--as", "anna")
    assert "person anna meters 1" in told
    assert shown(config, "corrections", "state=approved")["corrections"]
    assert "person ben" in do("corrections/decide", "action=revert", "chosen.method=like-days", "why=no", "--as", "ben")
    assert shown(config, "corrections", f"meter={INTO}", "state=proposed")["corrections"]


def test_person_enters_a_value_which_replaces_the_reading(
    do: Callable[..., str], config: Path, database: Database
) -> None:
    store(database, readings(range(FIRST, FIRST + 8), (INTO,)))
    start, end = FIRST * QUARTER_S, FIRST * QUARTER_S + 1815
    words = (f"meter={INTO}", f"start={start}", f"until={end}", "why=stuck", "energy_kwh=0.123456", "--as", "anna")
    assert "changed 3 person anna energy mwh 123456" in do("corrections/edit", *words)
    with database.reads.begin() as connection:
        made = overlay(connection, [INTO], FIRST, FIRST + 8)
    raw = reads.readings(database, numbers(database, INTO)[INTO], int(RecordType.THROUGH), FIRST, FIRST + 7)
    result = applied(raw, made)
    assert int(result.values.ravel()[:121].sum()) == 123_456
    assert set(result.quality.ravel()[:121].tolist()) == {SettledQuality.EDITED}
    assert set(result.quality.ravel()[121:].tolist()) == {SettledQuality.MEASURED}
    assert raw.values.tolist() == readings(range(FIRST, FIRST + 8), (INTO,)).values.tolist(), "readings stay"
    assert shown(config, "corrections", "state=edited")["corrections"]


WHEN = ("start=2026-02-16T00:00Z", "until=2026-02-17T00:00Z")
CHOSEN = tuple(f"chosen.{word}" for word in WHEN)
AS = ("--as", "anna")
APPROVE = ("corrections/decide", "action=approve")
EDIT = ("corrections/edit", *AS, f"meter={INTO}", "why=x")


WRONG = [
    ((*APPROVE, *AS), "choose 1 to 200 lines, not 0"),
    ((*APPROVE, "chosen.method=balance"), "log in with: commonwatt login"),
    ((*APPROVE, *AS, "chosen.method=guess"), "is none of balance, interpolation, like-days, edit, register"),
    ((*APPROVE, *AS, "chosen.meters=77"), "meter 77: no such meter"),
    ((*APPROVE, *AS, "chosen.meters="), "chosen.meters: List should have at least 1 item"),
    ((*APPROVE, *AS, "chosen.start=soon"), "start: 'soon' is no time"),
    ((*APPROVE, *AS, "chosen.start=2026-02-16T00:01Z"), "start must be a quarter-hour"),
    ((*APPROVE, *AS, "chosen.start=2026-02-17", "chosen.until=2026-02-16"), "start must be before until"),
    ((*APPROVE, *AS, *CHOSEN), "nothing to approve: none was chosen"),
    ((*EDIT, *WHEN), "no like days for the whole period; give its energy"),
    ((*EDIT, *WHEN, "energy_kwh=-1"), "energy_kwh -1: must be kilowatt-hours"),
    ((*EDIT, *WHEN, "energy_kwh=1.2345678"), "at most 6 decimals"),
    ((*EDIT, *WHEN, "energy_kwh=999999999"), "more than its service carries"),
    ((*EDIT, *WHEN, "energy_kwh=9999999999"), "more than any meter measures"),
    ((*EDIT, *WHEN, "type=stored"), "a level can't be edited"),
    ((*EDIT, *WHEN, "type=generation"), "does not measure it"),
    ((*EDIT, "start=2026-02-16T00:00:01Z", "until=2026-02-17"), "multiples of 15 s"),
    ((*EDIT, "start=2026-01-01", "until=2026-02-17"), "at most 35 days"),
    ((*EDIT, "start=2100-01-01", "until=2100-01-02"), "until is in the future"),
    ((*EDIT[:-1], "why= ", *WHEN), "why: give the reason"),
    (("findings/close", "numbers=5", *AS), "finding 5 is not open; nothing was closed"),
    (("findings/close", "numbers=5"), "log in with: commonwatt login"),
]


def test_wrong_input_is_told_and_changes_nothing(do: Callable[..., str], database: Database) -> None:
    for words, told in WRONG:
        assert told in do(*words, code=2)
    with database.reads.begin() as connection:
        assert connection.execute(select(correction)).first() is None


def test_person_closes_a_finding(do: Callable[..., str], config: Path, database: Database) -> None:
    store(database, readings(range(FIRST - 1, FIRST + 97), (INTO,), range(LATE, LATE + 2)))
    missing(database, numbers(database, INTO), range(LATE, LATE + 2))
    run(database)
    [row] = shown(config, "findings", "check=gap", f"meter={INTO}")["findings"]
    assert (row["meter"], row["figure"], row["start"]) == (str(INTO), 120, iso(LATE * QUARTER_S))
    assert "changed 1 person anna" in do("findings/close", f"numbers={row['no']}", "--as", "anna")
    assert shown(config, "findings")["findings"] == []
