"""Row 5 of the faults at the utility: what rots in its database is never believed, and comes again."""

import os
import random
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from sqlalchemy import insert, select, true, update
from sqlalchemy.event import listen
from sqlalchemy.exc import SQLAlchemyError

from commonwatt.codec.packing import pack
from commonwatt.codec.packing_arrays import Payloads
from commonwatt.model.blocks import Blocks, make_blocks
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.records import EventRecord, State
from commonwatt.model.units import QUARTER_S
from commonwatt.protocol.controller_commands import ControllerCommand
from commonwatt.protocol.dead_letters import DeadLetter
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.runtime.service import only_one
from commonwatt.sqlite import quarantine
from commonwatt.town.town import Town
from harness.surroundings.messages import find_gaps
from utility.access.people import Role, on_machine
from utility.access.store import audit_log
from utility.access.store.access import Person, add_person, set_password, set_state
from utility.access.tables import person, recovery_code, second_factor
from utility.assembly import recovery
from utility.assembly.recovery import recover
from utility.assembly.tables import metadata
from utility.database.checks import is_damage
from utility.database.database import DamagedDatabaseError, Database, open_database, save_setting
from utility.database.migrate import empty_database
from utility.database.town_zone import TOWN
from utility.energy.quarters import QUARTERS_A_DAY
from utility.jobs.plans import LocalMonth, Plan
from utility.jobs.store import take
from utility.jobs.tables import period, settled_day, settlement_due, usage_due
from utility.outbox.changes import Append, OpenCommand
from utility.outbox.store import add_command, open_commands
from utility.readings.store import batches, parts, reads
from utility.readings.store.compactor import SETTLE_S, Compactor
from utility.readings.store.dead_letters import dead_letter_row, dead_letters
from utility.readings.store.quarantine import QUARANTINED, REFUSED, masks_of
from utility.readings.store.retention import KEPT_FROM
from utility.readings.store.writer import Writer
from utility.readings.tables import compacted, dead_letter, event, part, quarantined
from utility.registry.store.registration import fill_registry
from utility.registry.tables import meter
from utility.settlement.packed import packed
from utility.settlement.tables import settled
from utility.statistics.months import month_number
from utility.statistics.packed import packed as table_packed
from utility.statistics.tables import usage_batteries, usage_day

FIRST = 2_000_000
QUARTERS = 12
METERS = (10001, 10002, 10003)
NOW = (FIRST + QUARTERS) * QUARTER_S + SETTLE_S
PAGE = 4096  # bytes of a page of SQLite
FLIPS = int(os.environ.get("FLIPS", "6"))  # ``make soak`` flips more
DEAD_LETTER = DeadLetter(meter=10001, log=1, reason=1, generation=1, record_id=9, time=NOW, content=b"something")

Values = dict[tuple[int, int, int, int], int]
Events = dict[tuple[int, int, int], EventRecord]


def sent_blocks(keys: list[tuple[int, int, int]]) -> Append:
    """Return what a gateway sends of some blocks."""
    values = [[(k[0] * 7 + k[2] * 61 + slot * 13) % 4001 for slot in range(60)] for k in keys]
    blocks = make_blocks(keys, values, [[2] * 60] * len(keys))
    return Append(
        sender="r001", owner="r001", received=NOW, blocks=blocks, payloads=pack(blocks), events=[], dead_letters=[]
    )


def sent_event(number: int, meter_id: int) -> tuple[int, EventRecord]:
    up = State.INITIALIZED
    time = (FIRST + number) * QUARTER_S
    return 1, EventRecord(
        previous_state=up, new_state=up | State.SHARING, record_id=number, meter_id=meter_id, time=time
    )


ALL_KEYS = [(meter_id, 3, quarter) for meter_id in METERS for quarter in range(FIRST, FIRST + QUARTERS)]
ALL_EVENTS = [sent_event(number, meter_id) for meter_id in METERS for number in range(8)]


def everything() -> list[Append]:
    """Return all that a gateway's backup has."""
    events = Append(
        sender="r001",
        owner="r001",
        received=NOW,
        blocks=make_blocks([], [], []),
        payloads=Payloads.of([]),
        events=ALL_EVENTS,
        dead_letters=[],
    )
    return [*(sent_blocks(ALL_KEYS[at : at + 5]) for at in range(0, len(ALL_KEYS), 5)), events]


def values_of(blocks: Blocks) -> Values:
    return {
        (*blocks.key(row), int(slot)): int(blocks.values[row, slot])
        for row in range(len(blocks))
        for slot in blocks.quality[row].nonzero()[0]
    }


def read_all(database: Database) -> tuple[Values, Events]:
    values: Values = {}
    for blocks in reads.all_blocks(database, 0, 2**32):
        values |= values_of(blocks)
    events = {(e.meter_id, g, e.record_id): e for g, e in reads.all_events(database, 0, 2**40)}
    return values, events


def compact(database: Database) -> None:
    compactor = Compactor(database)
    while (replacement := compactor.plan(NOW)) is not None:
        assert compactor.apply(replacement) or replacement.damaged


def work(database: Database) -> None:
    """Compact, and look for gaps, as the jobs do."""
    compact(database)
    find_gaps(database, NOW)


def answer(database: Database) -> None:
    """Send what was asked for, as a gateway does out of its backup."""
    with database.reads.begin() as connection:
        commands = [unpack_json(ControllerCommand, c.message.encode()) for c in open_commands(connection)]
    keys = {(int(m), kind, quarter) for c in commands for m, kind, quarter, _ in c.blocks or ()}
    Writer(database).commit([sent_blocks(sorted(keys & set(ALL_KEYS)))])


@pytest.fixture(scope="module")
def reference() -> tuple[Values, Events]:
    values: Values = {}
    for one in everything():
        values |= values_of(one.blocks)
    return values, {(e.meter_id, g, e.record_id): e for g, e in ALL_EVENTS}


@pytest.fixture
def filled(tmp_path: Path, town: Town) -> Path:
    """A database of which half is compacted."""
    path = tmp_path / "filled.db"
    path.write_bytes(empty_database())
    database = open_database(f"sqlite:///{path}", create=True)
    with database.writes.begin() as connection:
        fill_registry(connection, town)
    batches = everything()
    Writer(database).commit(batches[: len(batches) // 2])
    compact(database)
    Writer(database).commit(batches[len(batches) // 2 :])
    database.close()
    return path


def flip(path: Path, rng: random.Random, pages: Sequence[int] | None) -> None:
    """Flip a bit of a byte that says something, in any page or one of ``pages``."""
    data = bytearray(path.read_bytes())
    inside = range(len(data))
    if pages is not None:
        first = (rng.choice(pages) - 1) * PAGE
        inside = range(first, first + PAGE)
    at = rng.choice([i for i in inside if data[i]])
    data[at] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def pages_of_readings(path: Path) -> list[int]:
    """Return the pages that hold readings; most others hold the schema."""
    with closing(sqlite3.connect(path)) as db:
        tables = "'batch', 'part', 'compacted', 'event'"
        return [page for (page,) in db.execute(f"SELECT pageno FROM dbstat WHERE name IN ({tables})")]


def mended(path: Path, town: Town) -> Database:
    """Recover as a person does, and register the town again."""
    done = recover(path, NOW)
    assert done.quarantined is not None
    assert done.quarantined.exists()
    database = open_database(f"sqlite:///{path}", create=False, check=True)
    with database.writes.begin() as connection:
        fill_registry(connection, town)
    return database


def test_row_05_a_flipped_bit_at_the_utility_never_becomes_a_wrong_value(
    filled: Path, town: Town, reference: tuple[Values, Events], tmp_path: Path
) -> None:
    rng = random.Random("utility")
    outcomes: Counter[str] = Counter()
    readings = pages_of_readings(filled)
    for number in range(4 * FLIPS):
        if number >= FLIPS and outcomes["refused"] and outcomes["asked again"]:
            break  # Which bits do what depends on the version of SQLite.
        path = tmp_path / "flipped.db"
        shutil.copy(filled, path)
        flip(path, rng, readings if number % 2 else None)
        outcomes[survive(path, town, reference)] += 1
        for left in tmp_path.glob("flipped.db*"):
            left.unlink()
    assert outcomes["refused"] > 0, outcomes
    assert outcomes["asked again"] > 0, outcomes


def survive(path: Path, town: Town, reference: tuple[Values, Events]) -> str:
    """Let a utility work on a damaged file; whatever it reads must be true, and in the end all must be there."""
    outcome = "harmless"
    try:
        database = open_database(f"sqlite:///{path}", create=True, check=True)
    except StoreError:
        outcome, database = "refused", mended(path, town)
    try:
        check(database, reference)
        work(database)
    except SQLAlchemyError as error:
        if not is_damage(error):
            raise
        database.close()
        outcome, database = "stopped", mended(path, town)
        check(database, reference)
        work(database)
    found = check(database, reference)
    if found != reference and outcome == "harmless":
        outcome = "asked again"
        answer(database)
        assert check(database, reference)[0] == reference[0], "what was lost is there again"
    # A new store, or a gateway that sends its backup for another reason: then events are there again too.
    Writer(database).commit(everything())
    assert check(database, reference) == reference
    database.close()
    return outcome


def check(database: Database, reference: tuple[Values, Events]) -> tuple[Values, Events]:
    values, events = read_all(database)
    assert values.items() <= reference[0].items(), "a reading that nobody measured"
    assert events.items() <= reference[1].items(), "an event that nobody sent"
    return values, events


def months(name: str) -> Plan:
    return Plan(name=name, does="", cadence=LocalMonth(), catch_up=True)


def test_recovery_of_a_sound_database_takes_over_all_of_it_under_a_new_id(
    filled: Path, reference: tuple[Values, Events]
) -> None:
    old = open_database(f"sqlite:///{filled}", create=False)
    with old.writes.begin() as connection:
        connection.execute(insert(dead_letter), [dead_letter_row("r001", DEAD_LETTER, QUARANTINED)])
        connection.execute(
            update(dead_letter).values(state=REFUSED, decided=NOW, decided_by="a clerk", why="a meter on the bench")
        )
        connection.execute(insert(quarantined).values(meter_no=1, record_type=3, quarter=FIRST, letter_no=1, mask=5))
        add_command(connection, OpenCommand(id="cli-1", controller="r001", message="{}", until=NOW), NOW)
        turn = take(connection, months("bills"), NOW - 40 * 86_400)
        assert turn is None, "its first month has not ended"
        connection.execute(period.update().values(attempts=1, done=NOW))
        take(connection, months("broken"), NOW + 900 * 86_400)
        figures = reads.town(connection)
        meters = reads.meter_rows(connection, None, 0, 100, 0)
    old.close()
    done = recover(filled, NOW)
    assert +done.damaged == {"period": 1}, "that is to come, and would hold its job up until then"
    assert done.unreadable == []
    assert done.quarantined is not None
    assert done.quarantined.name == "filled.db.damaged-20270115T110100Z"
    assert not list(filled.parent.glob("*.new*"))
    assert not list(filled.parent.glob("*.image*"))
    new = open_database(f"sqlite:///{filled}", create=False, check=True)
    assert new.store_id != old.store_id
    assert read_all(new) == reference
    with new.reads.begin() as connection:
        (kept,) = dead_letters(connection, 10)
        assert (kept.no, kept.state, kept.dead_letter) == (1, REFUSED, DEAD_LETTER)
        assert "a clerk" in kept.decided
        assert masks_of(connection, [(1, 3, FIRST)]) == {(1, 3, FIRST): (0, 5)}
        assert [c.id for c in open_commands(connection)] == ["cli-1"]
        assert connection.execute(select(period.c.job, period.c.done)).all() == [("bills", NOW)], "no month twice"
        assert reads.town(connection) == figures
        assert reads.meter_rows(connection, None, 0, 100, 0) == meters
        exact = connection.execute(select(compacted.c.exact)).scalars().all()
        assert len(exact) > len(ALL_KEYS) // 3
        assert set(exact) == {60}
    new.close()


def test_recovery_without_damage_says_so(filled: Path, url: str, command: Callable[..., str]) -> None:
    filled.rename(url.removeprefix("sqlite:///"))
    assert "no damaged row was found; the old database is kept as" in command("recover")


def test_recovery_forgets_no_table_but_what_comes_again_by_itself() -> None:
    taken = {table.name for table in recovery._TAKEN}
    assert set(metadata.tables) - taken == {
        "gap",
        "gateway_seen",
        "plant_seen",
        "session",
        "started_login",
        "invitation",
    }


@pytest.mark.parametrize("after", ["quarantined", "nothing"])
def test_a_recovery_that_was_killed_is_finished_before_anything_else(
    filled: Path, reference: tuple[Values, Events], monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    def killed(path: Path, now: int) -> None:
        if after == "quarantined":
            quarantine(path, now)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(recovery, "put_in_place", killed)
        with pytest.raises(KeyboardInterrupt):
            recover(filled, NOW)
    with pytest.raises(StoreError, match="commonwatt utility recover"):
        open_database(f"sqlite:///{filled}", create=True)
    recover(filled, NOW)
    new = open_database(f"sqlite:///{filled}", create=False, check=True)
    assert read_all(new) == reference
    new.close()


@pytest.mark.parametrize("value", ["x'07'", "'{'"])
def test_recovery_counts_a_setting_that_it_has_to_leave_out(filled: Path, value: str) -> None:
    with closing(sqlite3.connect(filled)) as connection, connection:
        connection.execute(f"UPDATE setting SET value = {value} WHERE key = '{TOWN}'")
    assert recover(filled, NOW).damaged["setting"] == 1


def test_recovery_leaves_out_what_nobody_registered_measured_or_sent(filled: Path) -> None:
    database = open_database(f"sqlite:///{filled}", create=False)
    with database.writes.begin() as connection:
        connection.execute(update(meter).where(meter.c.label == "10003").values(account=4711))
        first, second, *_ = connection.execute(select(compacted.c.quarter).where(compacted.c.meter_no == 1)).scalars()
        of_meter = update(compacted).where(compacted.c.meter_no == 1)
        connection.execute(of_meter.where(compacted.c.quarter == first).values(quarter=FIRST + 99))
        connection.execute(of_meter.where(compacted.c.quarter == second).values(total=1, exact=7))
        connection.execute(update(event).where(event.c.meter_no == 1, event.c.record_id == 3).values(time=5))
    database.close()
    done = recover(filled, NOW)
    with_the_meter = 4
    assert +done.damaged == {"meter": 1, "compacted": 1, "batch": with_the_meter, "event": 1 + 8, "series": 1}
    database = open_database(f"sqlite:///{filled}", create=False, check=True)
    with database.reads.begin() as connection:
        numbers = select(compacted.c.total, compacted.c.exact)
        assert (1, 7) not in [tuple(row) for row in connection.execute(numbers)], "sums are made anew"
    database.close()


def test_recovery_has_damaged_settled_days_and_usage_computed_again(filled: Path) -> None:
    day = FIRST // QUARTERS_A_DAY
    before, december = day - 60, month_number("2026-12")
    bad, sound = b"damaged", table_packed(np.arange(48).reshape(1, 48))
    (of_day,) = packed([(10001, day)], [b"content"])
    of_settled = {"computed_minute": 0, "version": 1, "why": 1, "day": day}
    database = open_database(f"sqlite:///{filled}", create=False)
    with database.writes.begin() as connection:
        save_setting(connection, KEPT_FROM, str((day - 1) * QUARTERS_A_DAY))
        rows = [of_settled | {"meter_no": 1, "payload": of_day}, of_settled | {"meter_no": 2, "payload": of_day}]
        connection.execute(insert(settled), [*rows, rows[0] | {"day": before}, rows[1] | {"day": 2**40}])
        known = {"convention": "pro_rata", "computed": 0, "missing": 0, "final": True, "residual": "{}"}
        days = [{"day": each, "owner_no": 1} | known for each in (before, *range(day - 20, day))]
        connection.execute(insert(settled_day), days)
        of_class = [{"day": day - n, "class_no": 1, "payload": bad if n % 2 else sound} for n in range(1, 10)]
        connection.execute(insert(usage_day), [*of_class, {"day": before, "class_no": 1, "payload": bad}])
        of_month = [{"month": each, "owner_no": 1, "payload": bad} for each in (december, 0, 2**40)]
        connection.execute(insert(usage_batteries), [*of_month, of_month[0] | {"owner_no": 2, "payload": sound}])
    database.close()
    done = recover(filled, NOW)
    assert +done.damaged == {"settled": 3, "usage_day": 6, "usage_batteries": 3}
    database = open_database(f"sqlite:///{filled}", create=False, check=True)
    with database.reads.begin() as connection:
        assert len(connection.execute(select(settled)).all()) == 4, "a bill names the day"
        assert connection.execute(select(settlement_due.c.day, settlement_due.c.owner_no)).all() == [(day, 1)]
        # The days of December, and the one after it, which is partly of December elsewhere.
        again = {*range(day - 20, day - 13), *range(day - 9, day, 2)}
        assert set(connection.execute(select(usage_due.c.day)).scalars()) == again
    database.close()


def test_recovery_lets_nobody_in_with_a_password_alone_who_had_a_second_factor(
    filled: Path, url: str, command: Callable[..., str]
) -> None:
    filled = filled.rename(url.removeprefix("sqlite:///"))
    database = open_database(f"sqlite:///{filled}", create=False)
    names = ("ann", "ben", "cleo", "dora", "eve")
    with database.writes.begin() as connection:
        for name in names:
            one = Person(
                name=name, display=name, state="active", roles=frozenset({Role.CLERK}), account=None, created=NOW
            )
            add_person(connection, one, "test")
            set_password(connection, name, "a hash")
        set_state(connection, "dora", "disabled")
        have = {"secret": "A" * 32, "since": NOW, "last_step": 1, "guesses_until": 0}
        connection.execute(insert(second_factor), [have | {"person": name} for name in ("ann", "ben", "dora")])
        connection.execute(
            insert(recovery_code), [{"digest": f"{name:>64}", "person": name} for name in ("ann", "ben")]
        )
        for name, after in (("cleo", "on"), ("cleo", "off"), ("dora", "on"), ("eve", "on")):
            audit_log.record(connection, on_machine(name), NOW, "person.second-factor", name, after=after)
        connection.exec_driver_sql("UPDATE second_factor SET last_step = 'damaged' WHERE person <> 'ann'")
    database.close()
    said = command("recover")
    assert re.findall(r"(\w+): the second factor is lost", said) == ["ben", "dora", "eve"]
    assert "commonwatt utility people link ben --config" in said
    database = open_database(f"sqlite:///{filled}", create=False, check=True)
    with database.reads.begin() as connection:
        found = connection.execute(select(person.c.name, person.c.password, person.c.state).order_by(person.c.name))
        assert [tuple(row) for row in found] == [
            ("ann", "a hash", "active"),
            ("ben", None, "invited"),
            ("cleo", "a hash", "active"),
            ("dora", None, "disabled"),
            ("eve", None, "invited"),
        ]
        entries = audit_log.entries(connection, audit_log.AuditFilter(action="person.close"), 10)
        assert [entry["subject"] for entry in entries] == ["eve", "dora", "ben"]
    database.close()
    assert "ben" in command("people", "link", "ben")
    database = open_database(f"sqlite:///{filled}", create=False)
    with database.writes.begin() as connection:
        set_password(connection, "ben", "a new hash")
    database.close()
    assert recover(filled, NOW).closed == [], "who has a new password since then keeps it"


@pytest.mark.parametrize(("at", "length"), [(0, 100), (100, 2000), (0, 4096)])
def test_a_database_without_a_schema_is_refused_left_alone_and_recovered(
    filled: Path, reference: tuple[Values, Events], at: int, length: int
) -> None:
    data = bytearray(filled.read_bytes())
    data[at : at + length] = bytes(length)
    filled.write_bytes(data)
    with pytest.raises(DamagedDatabaseError, match=f"{filled}: the utility's database is damaged.*utility recover"):
        open_database(f"sqlite:///{filled}", create=True, check=True)
    assert filled.read_bytes() == data
    recover(filled, NOW)
    database = open_database(f"sqlite:///{filled}", create=False, check=True)
    assert read_all(database) == reference
    database.close()


def test_a_database_in_use_is_not_recovered(filled: Path) -> None:
    database = open_database(f"sqlite:///{filled}", create=False)
    with pytest.raises(ConfigError, match="a running utility"):
        recover(filled, NOW)
    database.close()
    with only_one(filled, "a recovery"), pytest.raises(ConfigError, match="a recovery, restore or move is using it"):
        open_database(f"sqlite:///{filled}", create=False)


def killed(filled: Path, folder: Path) -> Path:
    """Return a database as a kill leaves it, most of it in its log."""
    running = open_database(f"sqlite:///{filled}", create=False)
    for one in everything():
        Writer(running).commit([one])
    folder.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{filled}{suffix}", f"{folder}/utility.db{suffix}")
    running.close()
    return folder / "utility.db"


def store_id(path: Path) -> int:
    database = open_database(f"sqlite:///{path}", create=False)
    database.close()
    return database.store_id


def damage_log(path: Path, at: int) -> None:
    log = path.with_name(path.name + "-wal")
    data = bytearray(log.read_bytes())
    data[at] ^= 4
    log.write_bytes(data)


def test_an_undamaged_log_is_believed(filled: Path, tmp_path: Path, reference: tuple[Values, Events]) -> None:
    path = killed(filled, tmp_path / "killed")
    before = store_id(filled)
    database = open_database(f"sqlite:///{path}", create=False, check=True)
    assert database.store_id == before
    assert check(database, reference) == reference
    database.close()


def test_a_log_damaged_in_its_last_transaction_gives_a_new_store_id(
    filled: Path, tmp_path: Path, reference: tuple[Values, Events]
) -> None:
    path = killed(filled, tmp_path / "killed")
    before = store_id(filled)
    damage_log(path, -5000)
    database = open_database(f"sqlite:///{path}", create=False, check=True)
    assert database.store_id != before, "so the gateways send again what may be lost"
    check(database, reference)
    database.close()


def test_a_log_damaged_earlier_is_read_around_the_damage(
    filled: Path, tmp_path: Path, reference: tuple[Values, Events]
) -> None:
    path = killed(filled, tmp_path / "killed")
    damage_log(path, 5000)
    with pytest.raises(DamagedDatabaseError, match="its log, before its last 9 transactions"):
        open_database(f"sqlite:///{path}", create=False, check=True)
    recover(path, NOW)
    database = open_database(f"sqlite:///{path}", create=False, check=True)
    assert len(check(database, reference)[0]) > 0.9 * len(reference[0])
    database.close()


def test_a_log_with_a_damaged_header_counts_as_lost_and_says_so(filled: Path, tmp_path: Path) -> None:
    path = killed(filled, tmp_path / "killed")
    before = store_id(filled)
    damage_log(path, 16)
    with pytest.raises(DamagedDatabaseError, match="the header of its log, all of which is lost"):
        open_database(f"sqlite:///{path}", create=False, check=True)
    recover(path, NOW)
    assert store_id(path) != before, "so the gateways send their backups"


def test_many_damaged_parts_are_moved_in_short_transactions(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_part = {"meter_no": 1, "record_type": 3, "sender_no": 1, "owner_no": 1, "received_minute": 1, "payload": b"?"}
    with database.writes.begin() as connection:
        connection.execute(
            insert(part), [of_part | {"quarter": FIRST + n} for n in range(parts.QUARANTINED_AT_A_TIME + 1)]
        )
    with database.reads.begin() as connection:
        damaged = parts.check(batches.execute(connection, parts.select_parts(lambda _: true())).all()).damaged
    said: list[str] = []
    tried = Mock(wraps=parts._true_key)
    monkeypatch.setattr(parts, "_true_key", tried)
    listen(database.reads, "before_cursor_execute", lambda *told: said.append(told[2]))
    assert parts.quarantine(database, damaged) == len(damaged) == parts.QUARANTINED_AT_A_TIME + 1
    said = [statement for statement in said if statement.startswith("BEGIN") or "FROM meter" in statement]
    assert [statement.split()[:2] for statement in said] == [
        ["BEGIN"],
        ["SELECT", "meter.no,"],
        ["BEGIN", "IMMEDIATE"],
        ["BEGIN", "IMMEDIATE"],
    ], "the town's meters are read once, while others may write"
    assert tried.call_count == parts.TRIED_ROWS


def test_a_damaged_event_is_replaced_when_it_comes_again(filled: Path, reference: tuple[Values, Events]) -> None:
    database = open_database(f"sqlite:///{filled}", create=False)
    with database.writes.begin() as connection:
        connection.execute(update(event).where(event.c.record_id == 3).values(new_state=0))
    assert len(check(database, reference)[1]) == len(ALL_EVENTS) - len(METERS)
    committed = Writer(database).commit(everything())
    assert (committed.events, committed.event_conflicts) == (len(METERS), 0)
    assert check(database, reference) == reference
    database.close()


def test_a_database_in_memory_leaves_nothing_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_database("sqlite://", create=True, check=True).close()
    assert list(tmp_path.iterdir()) == []
