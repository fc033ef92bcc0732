"""What is older than the utility keeps it is dropped, not asked for again, and does no harm when it comes again."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from commonwatt.model.blocks import join
from commonwatt.model.units import QUARTER_S
from commonwatt.protocol.dead_letters import DeadLetter
from harness.network.waiting import eventually
from harness.real import databases
from harness.real.jobs import compact, find_gaps
from harness.surroundings.sent import append, blocks
from utility.assembly.recovery.recovery import recover
from utility.database.database import Database, open_database, save_setting
from utility.database.postgres.partitions import first_quarter, make_partitions, month_of, months_later, partitions
from utility.jobs.reasons import Why
from utility.jobs.store.due import mark
from utility.jobs.tables import settlement_due
from utility.readings.store import completeness, reads, retention
from utility.readings.store.compactor import SETTLE_S, Compactor
from utility.readings.store.dead_letters import dead_letter_row
from utility.readings.store.retention import KEPT_FROM, Retention, kept_from, make_ahead
from utility.readings.store.writer import Writer
from utility.readings.tables import compacted, dead_letter, gap, quarantined

kind = databases.both_kinds

MONTHS = [(2026, 11), (2026, 12), (2027, 1), (2027, 2)]
QUARTERS = [first_quarter(month) + 100 for month in MONTHS]
NOW = QUARTERS[-1] * QUARTER_S + 86_400


@pytest.fixture
def filled(database: Database) -> Database:
    Writer(database).commit([append(blocks({0: 5}, quarter=quarter)) for quarter in QUARTERS])
    compact(database, NOW + SETTLE_S)
    settle(database)
    return database


def settle(database: Database, before: int = NOW // 86_400) -> None:
    """Have all days before one be settled."""
    with database.writes.begin() as connection:
        connection.execute(settlement_due.delete().where(settlement_due.c.day < before))


def drop(database: Database, keep_months: int, now: int = NOW) -> None:
    retaining = Retention(database, keep_months)
    first = retaining.plan(now)
    assert first is not None
    while retaining.apply(first):
        pass


def quarters(database: Database) -> list[int]:
    found = join(list(reads.all_blocks(database, 0, 2**31 - 1)))
    return sorted(found.quarter.tolist())


def first_gap(database: Database) -> int:
    find_gaps(database, NOW)
    with database.reads.begin() as connection:
        return int(connection.execute(select(func.min(gap.c.quarter))).scalar_one())


def test_whole_months_are_kept_and_what_is_older_goes(
    filled: Database, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MAX_BLOCKS", 1)
    drop(filled, 12)
    assert quarters(filled) == QUARTERS
    drop(filled, 1)
    assert quarters(filled) == QUARTERS[2:]
    if kind == "postgresql":
        with filled.reads.begin() as connection:
            assert {month for month in partitions(connection) if month < MONTHS[2]} == set()


def test_dead_letters_go_with_the_readings_of_their_time_unless_a_person_decided(filled: Database) -> None:
    old, new = QUARTERS[0] * QUARTER_S, QUARTERS[-1] * QUARTER_S
    with filled.writes.begin() as connection:
        states = [(old, ""), (old, "quarantined"), (old, "refused"), (new, ""), (30, "quarantined")]
        for number, (time, state) in enumerate(states):
            kept = DeadLetter(meter=1, log=1, reason=2, generation=0, record_id=number, time=time, content=b"")
            connection.execute(dead_letter.insert().values(dead_letter_row("r001", kept, state)))
        for no in connection.execute(select(dead_letter.c.no).where(dead_letter.c.state != "")).scalars().all():
            # The last one is new, but of a clock that was not set.
            quarter = QUARTERS[0] if no <= len(MONTHS) else QUARTERS[-1]
            slots = {"meter_no": 1, "record_type": 3, "quarter": quarter, "letter_no": no, "mask": 1}
            connection.execute(quarantined.insert().values(slots))
    drop(filled, 1)
    with filled.reads.begin() as connection:
        found = connection.execute(select(dead_letter.c.record_id).order_by(dead_letter.c.record_id)).scalars()
        assert list(found) == [2, 3, 4]
        assert len(connection.execute(select(quarantined)).all()) == 2


def test_what_was_dropped_is_not_asked_for_and_does_no_harm_when_it_comes_again(filled: Database) -> None:
    assert first_gap(filled) < first_quarter(MONTHS[1])
    drop(filled, 1)
    assert first_gap(filled) == first_quarter(MONTHS[2])
    (counts,) = completeness.completeness(filled, 0, QUARTERS[-1] + 1)
    assert counts.counts.expected == (QUARTERS[-1] + 1 - first_quarter(MONTHS[2])) * 60
    assert Writer(filled).commit([append(blocks({0: 5}, quarter=QUARTERS[0]))]).blocks == 1
    compact(filled, NOW + SETTLE_S)
    assert first_gap(filled) == first_quarter(MONTHS[2])
    drop(filled, 1)
    assert quarters(filled) == QUARTERS[2:]


def test_a_month_is_kept_while_a_day_of_it_is_not_settled(filled: Database) -> None:
    """Else its bill could never be made."""
    for quarter in QUARTERS[:2]:
        Writer(filled).commit([append(blocks({1: 5}, quarter=quarter))])
    compact(filled, NOW + SETTLE_S)
    drop(filled, 1)
    assert quarters(filled) == QUARTERS
    settle(filled, before=QUARTERS[1] // 96)
    drop(filled, 1)
    assert quarters(filled) == QUARTERS[1:]
    Writer(filled).commit([append(blocks({1: 5}, quarter=QUARTERS[0]))])
    compact(filled, NOW + SETTLE_S)
    settle(filled, before=0)
    with filled.writes.begin() as connection:
        connection.execute(settlement_due.delete().where(settlement_due.c.day == QUARTERS[1] // 96))
    drop(filled, 1)
    assert quarters(filled) == QUARTERS[2:], "late readings of a month that was dropped hold up nothing"


def test_the_levels_before_a_day_that_is_to_be_settled_are_kept(filled: Database) -> None:
    with filled.writes.begin() as connection:
        mark(connection, settlement_due, [(first_quarter(MONTHS[2]) // 96, 1)], Why.LATE)
    assert Retention(filled, 1).plan(NOW) == first_quarter(MONTHS[1])


def test_what_was_dropped_stays_so_when_more_is_to_be_kept(filled: Database) -> None:
    drop(filled, 1)
    drop(filled, 12)
    with filled.reads.begin() as connection:
        assert kept_from(connection) == first_quarter(MONTHS[2])


@pytest.mark.parametrize("kind", ["sqlite"])
def test_what_was_dropped_is_not_looked_for_after_a_recovery(kind: str, filled: Database, tmp_path: Path) -> None:
    drop(filled, 1)
    filled.close()
    recover(tmp_path / "utility.db", NOW)
    with closing(open_database(f"sqlite:///{tmp_path}/utility.db", create=False)) as mended:
        assert first_gap(mended) == first_quarter(MONTHS[2])
        with mended.writes.begin() as connection:
            save_setting(connection, KEPT_FROM, str(NOW // QUARTER_S + 1))
    recover(tmp_path / "utility.db", NOW)
    with closing(open_database(f"sqlite:///{tmp_path}/utility.db", create=False)) as damaged:
        assert first_gap(damaged) < first_quarter(MONTHS[2]), "a time to come is not what was written"


def test_a_clock_that_is_years_ahead_drops_nothing_that_is_to_be_kept(filled: Database) -> None:
    drop(filled, 1, now=NOW + 20 * 365 * 86_400)
    assert quarters(filled) == QUARTERS[2:]


def test_of_an_empty_database_nothing_is_dropped(database: Database) -> None:
    assert Retention(database, 1).plan(NOW) is None


def test_months_before_and_after_are_counted_over_years() -> None:
    assert months_later((2027, 1), -1) == (2026, 12)
    assert months_later((2026, 12), 1) == (2027, 1)
    assert months_later((2027, 2), -26) == (2024, 12)
    assert month_of(first_quarter((2027, 2)) - 1) == (2027, 1)


# Of PostgreSQL alone


@pytest.mark.parametrize("kind", ["postgresql"])
def test_partitions_are_made_ahead_and_by_two_at_once(kind: str, database: Database, url: str) -> None:
    waits = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    with closing(open_database(url, create=False)) as other, ThreadPoolExecutor(1) as thread:
        with database.writes.begin() as connection:
            make_partitions(connection, [(2031, 12)])
            second = thread.submit(make_ahead, other, first_quarter((2031, 12)) * QUARTER_S)
            eventually(lambda: connection.execute(waits).scalar_one())
        second.result(timeout=20)
        with other.reads.begin() as connection:
            assert {(2031, 12), (2032, 1)} <= set(partitions(connection))


@pytest.mark.parametrize("kind", ["postgresql"])
def test_whoever_reads_for_long_holds_up_the_drop_and_nothing_else(
    kind: str, filled: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "LOCK_TIMEOUT", "50ms")
    with filled.reads.begin() as connection:
        connection.execute(select(func.count()).select_from(compacted))
        retaining = Retention(filled, 1)
        first = retaining.plan(NOW)
        assert first is not None
        assert not retaining.apply(first), "it is not tried again at once"
        Writer(filled).commit([append(blocks({1: 5}, quarter=first_quarter((2033, 5))))])
        compactor = Compactor(filled)
        replacement = compactor.plan(first_quarter((2033, 6)) * QUARTER_S)
        assert replacement is not None
        assert compactor.apply(replacement) == 1, "a new month is made although somebody reads"
        connection.execute(text("SELECT 1"))
    assert QUARTERS[0] in quarters(filled)
    assert first_gap(filled) == first_quarter(MONTHS[2]), "nor is it looked for meanwhile"
    drop(filled, 1)
    assert QUARTERS[0] not in quarters(filled)
