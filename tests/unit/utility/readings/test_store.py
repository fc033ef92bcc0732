"""The store of readings: batches as rows until they are compacted, joined blocks, and look-ups by index."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Table, Update, event, func, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateTable

from commonwatt.codec.packing import pack
from commonwatt.codec.packing_arrays import Payloads
from commonwatt.look.dead_letter_words import row_of
from commonwatt.model.blocks import Blocks, concatenate, empty, join, make_blocks
from commonwatt.model.records import EventRecord
from commonwatt.model.units import QUARTER_S, signed64, unsigned64
from commonwatt.protocol.controller_commands import ControllerCommand, ControllerOutcome
from commonwatt.protocol.dead_letters import DeadLetter, DeadLetterFilter, LocalReason
from commonwatt.protocol.json_messages import unpack_json
from harness.surroundings import databases
from harness.surroundings.messages import a_heartbeat, append, blocks, compact, find_gaps
from utility.database.bulk import listed
from utility.database.database import Database
from utility.database.postgres.partitions import make_partitions
from utility.outbox.changes import CloseCommand, KeepDeadLetter, OpenCommand, SawGateway
from utility.outbox.store import add_command, open_commands
from utility.readings.flows import masks, summaries
from utility.readings.store import batches, gaps, gateways, reads, writer
from utility.readings.store import compactor as compactor_module
from utility.readings.store import quarantine as quarantined
from utility.readings.store.batches import WAITING, Parts, parts_of
from utility.readings.store.compactor import Compactor, conflicts
from utility.readings.store.dead_letters import dead_letters
from utility.readings.store.gaps import GapFinder
from utility.readings.store.parts import as_rows
from utility.readings.store.writer import Writer
from utility.readings.tables import batch, compacted, dead_letter, gap, part
from utility.registry.tables import declared_minimum

kind = databases.both_kinds

QUARTER = 2_000_000
LATER = (QUARTER + 1) * 900 + 61
EVENT = EventRecord(previous_state=0, new_state=1, record_id=2**64 - 1, meter_id=10001, time=1_800_000_000)


def everything(database: Database) -> Blocks:
    return join(list(reads.all_blocks(database, 0, 2**31 - 1)))


def same(a: Blocks, b: Blocks) -> bool:
    return a.keys() == b.keys() and pack(a) == pack(b)


def number_of(database: Database) -> int:
    """Return how many rows hold readings."""
    return sum(count(database, table) for table in (batch, part, compacted))


def count(database: Database, what: Table) -> int:
    with database.reads.begin() as connection:
        return connection.execute(select(func.count()).select_from(what)).scalar_one()


def damage_first(payload: bytes) -> Update:
    return update(batch).where(batch.c.id == select(func.min(batch.c.id)).scalar_subquery()).values(payload=payload)


@given(st.integers(0, 2**64 - 1))
def test_unsigned_numbers_survive_signed_columns(number: int) -> None:
    assert -(2**63) <= signed64(number) < 2**63
    assert unsigned64(signed64(number)) == number


def test_summaries_are_those_of_the_slots() -> None:
    flow, level, nothing = blocks({3: 5, 7: -2, 50: 9}), blocks({1: 4}, kind=2, q=1), blocks({})
    (row,) = as_rows(summaries(flow))
    assert row == {
        "exact": 3,
        "averaged": 0,
        "conflicts": 0,
        "total": 12,
        "first_reading": 5,
        "last_reading": 9,
        "min_reading": -2,
        "max_reading": 9,
    }
    (row,) = as_rows(summaries(level))
    assert (row["averaged"], row["total"], row["first_reading"]) == (1, None, 4)
    (row,) = as_rows(summaries(nothing))
    assert (row["exact"], row["total"], row["min_reading"], row["last_reading"]) == (0, None, None, None)
    assert as_rows(summaries(empty())) == []
    (row,) = as_rows(summaries(join([blocks({3: 5}), blocks({3: 6}), blocks({3: 7})])))
    assert row["conflicts"] == 1
    assert masks(flow).tolist() == [1 << 3 | 1 << 7 | 1 << 50]


def test_appended_values_are_there_at_once(database: Database) -> None:
    writer = Writer(database)
    counts = writer.commit([append(blocks({0: 5})), append(blocks({1: 6}))])
    assert (counts.batches, counts.blocks, counts.slots) == (2, 2, 2)
    assert same(everything(database), blocks({0: 5, 1: 6}))
    with database.reads.begin() as connection:
        status = reads.status(connection)["r001"]
    assert (status["received_batches"], status["received_slots"], status["last_batch"]) == (2, 2, 1_800_000_000)


def test_failed_commit_leaves_nothing(database: Database) -> None:
    writer = Writer(database)
    bad = DeadLetter(meter=1, log=1, reason=4, generation=1, record_id=9, time=None, content=b"")  # type: ignore[arg-type]
    with pytest.raises(IntegrityError, match=r"(?i)not.null"):
        writer.commit([append(blocks({0: 5}), events=[(1, EVENT)], dead_letters=[bad])])
    assert (number_of(database), len(everything(database))) == (0, 0)
    assert writer.commit([append(blocks({0: 5}))]).blocks == 1
    with database.reads.begin() as connection:
        # What was remembered of the failed one must not keep the first quarter from being noted.
        assert connection.execute(text("SELECT count(*) FROM series")).scalar() == 1


def test_events_are_a_set_and_a_contradiction_is_kept_as_letter(database: Database) -> None:
    writer = Writer(database)
    other = replace(EVENT, new_state=3)
    assert writer.commit([append(events=[(1, EVENT)]), append(events=[(1, EVENT)])]).events == 1
    again = writer.commit([append(events=[(1, EVENT), (1, other), (2, other)])])
    assert (again.events, again.dead_letters, again.event_conflicts) == (1, 1, 1)
    assert writer.commit([append(events=[(1, other)])]).dead_letters == 0
    assert set(reads.all_events(database, 0, 2**32)) == {(1, EVENT), (2, other)}
    with database.reads.begin() as connection:
        kept = row_of(dead_letters(connection, 10)[0])
        assert reads.status(connection)["r001"]["conflicts"] == 1
        assert reads.events(connection, 1, 10001, 10)[0]["id"] == str(2**64 - 1)
    assert (kept["reason_text"], kept["content"], kept["id"]) == ("event conflict", other.pack().hex(), str(2**64 - 1))


def test_letter_sent_again_is_counted_once(database: Database) -> None:
    writer = Writer(database)
    one = DeadLetter(meter=2**64 - 1, log=1, reason=4, generation=1, record_id=9, time=5, content=b"abc")
    assert writer.commit([append(dead_letters=[one]), KeepDeadLetter(sender="r001", dead_letter=one)]).dead_letters == 1
    assert writer.commit([append(dead_letters=[one, replace(one, content=b"abd")])]).dead_letters == 1
    with database.reads.begin() as connection:
        assert [kept.dead_letter.meter for kept in dead_letters(connection, 10)] == [2**64 - 1] * 2


def test_what_a_meter_says_of_its_minimum_counts_and_only_what_is_newer(database: Database) -> None:  # req: T6
    def minimum() -> tuple[object, object]:
        with database.reads.begin() as connection:
            (row,) = [m for m in reads.meter_rows(connection, "r001", 0, 100, 0) if m["id"] == "10001"]
        return row["minimum_percent"], row["minimum_said"]

    def tell(percent: int, time: int) -> None:
        minima = ((10001, percent, time), (99, 1, 1))
        seen = SawGateway(controller="r001", time=30, heartbeat=a_heartbeat(), minima=minima)
        Writer(database).commit([seen])

    assert minimum()[1] is None
    for percent, time in ((75, 20), (25, 10)):
        tell(percent, time)
        assert minimum() == (75, 20)
    tell(50, 10**9)
    tell(25, 25)
    assert minimum() == (25, 25), "a clock that was ahead no longer counts"
    tell(25, 28)
    with database.reads.begin() as connection:
        told = connection.execute(select(declared_minimum.c.percent, declared_minimum.c.said).order_by("said")).all()
    assert list(map(tuple, told)) == [(75, 20), (25, 25)], "earlier answers stay, with their dates"


def test_heartbeat_replaces_the_one_before(database: Database) -> None:
    Writer(database).commit(
        [SawGateway(controller="r001", time=t, heartbeat=a_heartbeat(backlog_parts=t)) for t in (5, 6)]
    )
    with database.reads.begin() as connection:
        status = reads.status(connection)
    assert (status["r001"]["heartbeat"]["backlog_parts"], status["r001"]["last_seen"]) == (6, 6)  # type: ignore[index]
    assert status["r002"]["heartbeat"] is None


def test_command_is_closed_by_its_controller_alone(database: Database) -> None:
    writer = Writer(database)
    with database.writes.begin() as connection:
        add_command(connection, OpenCommand(id="c", controller="r001", message="{}", until=9), 1)
    writer.commit([CloseCommand(id="c", controller="r002", state="done", outcome="{}")])
    with database.reads.begin() as connection:
        assert [c.id for c in open_commands(connection)] == ["c"]
    writer.commit([CloseCommand(id="c", controller="r001", state="done", outcome='{"a":1}')])
    with database.reads.begin() as connection:
        assert open_commands(connection) == []
        assert reads.commands(connection, 5)[0]["outcome"] == {"a": 1}


def give(database: Database, number: int, *, controller: str = "r001", **fields: object) -> str:
    command = ControllerCommand.model_validate({"id": f"c{number}", "until": 100, **fields})
    new = OpenCommand(id=command.id, controller=controller, message=command.pack().decode(), until=100)
    with database.writes.begin() as connection:
        add_command(connection, new, number)
    return command.id


def states(database: Database) -> dict[object, object]:
    with database.reads.begin() as connection:
        return {c["id"]: c["state"] for c in reversed(reads.commands(connection, 100))}


def test_an_earlier_command_never_undoes_a_later_one(database: Database) -> None:
    give(database, 1, cmd="aggregate", mode="lossy")
    give(database, 2, cmd="aggregate", at="meters")
    give(database, 3, cmd="aggregate", controller="r002")
    give(database, 4, cmd="get", first_quarter=1, last_quarter=2)
    give(database, 5, cmd="schedule", periods={"relay_s": 60})
    give(database, 6, cmd="deaggregate")
    Writer(database).commit([CloseCommand(id="c6", controller="r001", state="done", outcome="{}")])
    assert states(database) == {
        "c1": "superseded",
        "c2": "open",
        "c3": "open",
        "c4": "open",
        "c5": "open",
        "c6": "done",
    }
    with database.reads.begin() as connection:
        assert "c1" not in {c.id for c in open_commands(connection)}
    # An outcome of the earlier that comes late changes nothing.
    Writer(database).commit([CloseCommand(id="c1", controller="r001", state="done", outcome="{}")])
    assert states(database)["c1"] == "superseded"


def test_commands_that_were_carried_out_are_not_read_to_list_the_others(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = ControllerOutcome(id="", cmd="supply", result="done", time=9)
    refused = done.model_copy(update={"result": "refused", "reason": "it is full"})
    for n in range(20):
        with database.writes.begin() as connection:
            add_command(connection, OpenCommand(id=f"c{n}", controller="r001", message="{}", until=60), 10)
        if n != 7:
            outcome = (refused if n == 9 else done).pack().decode()
            Writer(database).commit([CloseCommand(id=f"c{n}", controller="r001", state="done", outcome=outcome)])
    read: list[str] = []

    def loads(text: str) -> object:
        read.append(text)
        return json.loads(text)

    monkeypatch.setattr(gateways, "json", SimpleNamespace(loads=loads))
    with database.reads.begin() as connection:
        found = gateways.unanswered(connection, 50, 10)
    assert [(one.state, one.reason) for one in found] == [("open", ""), ("failed", "refused: it is full")]
    assert len(read) == 3


def test_an_earlier_schedule_keeps_the_periods_a_later_one_does_not_set(database: Database) -> None:
    give(database, 1, cmd="schedule", periods={"relay_s": 60, "collect_s": 30})
    give(database, 2, cmd="schedule", periods={"levels_s": 60})
    give(database, 3, cmd="schedule", periods={"relay_s": 900})
    assert states(database) == {"c1": "open", "c2": "open", "c3": "open"}
    with database.reads.begin() as connection:
        first = unpack_json(ControllerCommand, open_commands(connection)[0].message.encode())
    assert (first.id, first.periods) == ("c1", {"collect_s": 30})
    give(database, 4, cmd="schedule", periods={"relay_s": 60, "collect_s": 60})
    assert states(database) == {"c1": "superseded", "c2": "open", "c3": "superseded", "c4": "open"}


def test_a_later_schedule_of_the_meters_aggregation_replaces_only_that(database: Database) -> None:
    give(database, 1, cmd="schedule", periods={"relay_s": 60}, meters="lossless")
    give(database, 2, cmd="schedule", periods={}, meters="lossless")
    give(database, 3, cmd="schedule", periods={}, meters="none")
    assert states(database) == {"c1": "open", "c2": "superseded", "c3": "open"}
    with database.reads.begin() as connection:
        first = unpack_json(ControllerCommand, open_commands(connection)[0].message.encode())
    assert (first.periods, first.meters) == ({"relay_s": 60}, None)
    give(database, 4, cmd="schedule", periods={"relay_s": 900})
    assert states(database) == {"c1": "superseded", "c2": "superseded", "c3": "open", "c4": "open"}


def test_compaction_makes_one_part_and_the_view_shows_it(database: Database) -> None:
    writer = Writer(database)
    for slot in range(60):
        writer.commit([append(blocks({slot: slot}))])
    assert Compactor(database).plan((QUARTER + 1) * 900 + 59) is None
    assert compact(database, LATER + 900 * 10) == 1
    assert number_of(database) == 1
    with database.reads.begin() as connection:
        (row,) = connection.execute(text("SELECT * FROM block")).mappings()
    assert (row["meter"], row["start"], row["exact"], row["missing"], row["total"]) == (
        "10001",
        QUARTER * 900,
        60,
        0,
        1770,
    )
    assert compact(database, LATER + 900 * 10) == 0


def test_late_part_is_compacted_into_its_block(database: Database) -> None:
    writer = Writer(database)
    writer.commit([append(blocks({0: 5}))])
    compact(database, LATER + 900 * 10)
    writer.commit([append(blocks({0: 6}), sender="r002")])
    assert compact(database, LATER + 900 * 10) == 1
    assert number_of(database) == 1
    values = [{"value": 5, "senders": ["r001"]}, {"value": 6, "senders": ["r002"]}]
    assert conflicts(database, 10) == [
        {"meter": "10001", "type": 3, "start": QUARTER * 900, "quality": 2, "values": values}
    ]
    with database.reads.begin() as connection:
        assert reads.status(connection)["r001"]["conflicts"] == 1
        assert connection.execute(select(compacted.c.sender_no, compacted.c.owner_no)).one() == (0, 1)


def test_part_appended_between_reading_and_replacing_is_not_lost(database: Database) -> None:
    writer, compactor = Writer(database), Compactor(database)
    writer.commit([append(blocks({0: 5}))])
    replacement = compactor.plan(LATER)
    assert replacement is not None
    writer.commit([append(blocks({1: 6}))])
    assert compactor.apply(replacement) == 1
    assert same(everything(database), blocks({0: 5, 1: 6}))
    # A second compactor with the same plan finds its parts gone, and changes nothing.
    assert compactor.apply(replacement) == 0
    assert compact(database, LATER + 900 * 10) == 1
    assert same(everything(database), blocks({0: 5, 1: 6}))


def test_of_two_compactors_that_make_the_same_block_the_second_takes_it_back(database: Database) -> None:
    writer, compactor = Writer(database), Compactor(database)
    writer.commit([append(blocks({0: 5}))])
    first = compactor.plan(LATER)
    assert first is not None
    with database.writes.begin() as connection:
        # Hidden, as what another service has not committed yet.
        hidden = dict(connection.execute(select(batch)).mappings().one())
        connection.execute(batch.delete())
    writer.commit([append(blocks({1: 6}))])
    second = compactor.plan(LATER)
    assert second is not None
    with database.writes.begin() as connection:
        connection.execute(batch.insert(), [hidden])
    assert compactor.apply(second) == 1
    assert compactor.apply(first) == 0
    assert same(everything(database), blocks({0: 5, 1: 6}))
    assert compact(database, LATER + 900 * 10) == 1
    assert same(everything(database), blocks({0: 5, 1: 6}))


def test_a_block_replaced_since_it_was_read_is_not_replaced_again(database: Database) -> None:
    writer, compactor = Writer(database), Compactor(database)
    writer.commit([append(blocks({0: 5}))])
    compact(database, LATER + 900 * 10)
    writer.commit([append(blocks({1: 6}))])
    late = compactor.plan(LATER)
    assert late is not None
    with database.writes.begin() as connection:
        connection.execute(compacted.update().values(payload=pack(blocks({0: 5, 2: 7}))[0]))
    assert compactor.apply(late) == 0
    assert compact(database, LATER + 900 * 10) == 1
    assert same(everything(database), blocks({0: 5, 1: 6, 2: 7}))


@pytest.mark.parametrize("kind", ["postgresql"])
def test_parts_are_found_by_their_index_however_little_the_server_knows_of_them(database: Database) -> None:
    columns = dict.fromkeys(("meter_no", "record_type", "sender_no", "owner_no", "received_minute"), 1)
    with database.writes.begin() as connection:
        rows = [columns | {"quarter": QUARTER + q, "payload": b"?"} for q in range(500)]
        connection.execute(part.insert(), rows)
    statement = compactor_module._PARTS.params(before=QUARTER + 400)
    sql = str(statement.compile(database.reads, compile_kwargs={"literal_binds": True}))
    with database.reads.begin() as connection:
        compactor_module._use_indexes(connection)
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {sql}").scalars())
    assert "Index Scan using ix_part_key on part" in plan
    assert "->  Sort" not in plan


@pytest.mark.parametrize("kind", ["postgresql"])
def test_the_look_for_waiting_batches_is_not_compiled_first(database: Database) -> None:
    sql = str(WAITING.params(before=QUARTER).compile(database.reads, compile_kwargs={"literal_binds": True}))
    with database.reads.begin() as connection:
        compactor_module._use_indexes(connection)
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN (ANALYZE) {sql}").scalars())
    assert "Sort  (cost=1000000" in plan  # of a cost for which a server would compile it
    assert "JIT" not in plan


def test_late_parts_far_apart_are_joined_with_their_blocks(database: Database) -> None:
    writer = Writer(database)
    quarters = range(QUARTER - 5, QUARTER + 1)
    writer.commit([append(blocks({0: 5}, quarter=quarter)) for quarter in quarters])
    compact(database, LATER)
    writer.commit([append(blocks({1: 6}, quarter=quarter)) for quarter in (quarters[0], quarters[-1])])
    assert compact(database, LATER) == 2
    found = everything(database)
    assert dict(zip(found.quarter.tolist(), masks(found).tolist(), strict=True)) == dict.fromkeys(quarters, 1) | {
        quarters[0]: 3,
        quarters[-1]: 3,
    }


@pytest.mark.parametrize("kind", ["postgresql"])
def test_blocks_between_late_parts_are_not_read(database: Database) -> None:
    writer = Writer(database)
    writer.commit([append(blocks({0: 5}, quarter=QUARTER - q)) for q in range(300)])
    compact(database, LATER)
    writer.commit([append(blocks({1: 6}, quarter=QUARTER - q)) for q in (0, 299)])
    plans = []

    def explain(connection: Connection, _: object, statement: str, parameters: Any, *__: object) -> None:
        if "FROM compacted" in statement:
            cursor = connection.connection.cursor()
            cursor.execute(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {statement}", parameters)
            plans.append("\n".join(line for (line,) in cursor.fetchall()))

    event.listen(database.reads, "before_cursor_execute", explain)
    assert Compactor(database).plan(LATER) is not None
    event.remove(database.reads, "before_cursor_execute", explain)
    (plan,) = plans
    scans = re.findall(r" on compacted_.*\(actual rows=(\d+) loops=(\d+)\)", plan)
    # How many meters the join passes over is the server's choice, by what it knows of their table.
    assert sum(int(rows) * int(loops) for rows, loops in scans) == 2, plan


def test_gap_is_looked_at_again_when_its_block_is_compacted_before_the_finder_came(database: Database) -> None:
    writer, finder = Writer(database), GapFinder(database)
    writer.commit([append(blocks({0: 5}))])
    for slots in ({}, dict.fromkeys(range(1, 60), 6)):
        if slots:
            writer.commit([append(blocks(slots))])
        compact(database, LATER + 900 * 10)
        finder.apply(finder.plan(LATER, 0), LATER)
    assert count(database, gap) == 0


def test_damaged_part_is_set_aside_and_asked_for_again(database: Database) -> None:
    Writer(database).commit([append(blocks({0: 5})), append(blocks({1: 6}))])
    with database.writes.begin() as connection:
        sound = connection.execute(select(batch.c.payload).order_by(batch.c.id)).scalars().first()
        assert sound is not None
        connection.execute(damage_first(sound[:-1] + b"?"))
    counted: list[int] = []
    database.count_damaged = counted.append
    assert same(everything(database), blocks({1: 6}))
    assert sum(counted) == 1
    assert (number_of(database), count(database, dead_letter)) == (1, 1)
    with database.reads.begin() as connection:
        row = connection.execute(select(gap)).one()
        assert (row.quarter, row.mask, row.is_open) == (QUARTER, 2**60 - 1, True)
        assert dead_letters(connection, 1)[0].dead_letter.reason == LocalReason.DAMAGED_PART


def test_compactor_goes_on_past_a_damaged_part(database: Database) -> None:
    Writer(database).commit([append(blocks({0: 5})), append(blocks({1: 6}, meter=10002))])
    with database.writes.begin() as connection:
        connection.execute(damage_first(b""))
    counted: list[int] = []
    database.count_damaged = counted.append
    replacement = Compactor(database).plan(LATER)
    assert replacement is not None
    assert replacement.damaged == sum(counted) == 1
    assert Compactor(database).apply(replacement) == 1


def test_stream_parts_no_block_in_two(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utility.readings.store.parts.CHUNK_ROWS", 2)
    parts = [blocks({slot: slot}, quarter=QUARTER + q) for q in range(3) for slot in range(5)]
    Writer(database).commit([append(p) for p in parts])
    assert [len(some) for some in reads.all_blocks(database, 0, QUARTER + 5)] == [1, 1, 1]
    assert same(everything(database), join(parts))


Keys = st.tuples(st.sampled_from([10001, 10003]), st.sampled_from([2, 3]), st.sampled_from([QUARTER, QUARTER + 1]))
Slots = st.dictionaries(
    st.integers(0, 4), st.tuples(st.integers(-(2**53), 2**53) | st.integers(0, 2), st.sampled_from([1, 2])), max_size=5
)


@st.composite
def any_parts(draw: st.DrawFn) -> Blocks:
    rows = draw(st.lists(st.tuples(Keys, Slots), min_size=1, max_size=4))
    values = [[slots.get(s, (0, 0))[0] for s in range(60)] for _, slots in rows]
    quality = [[slots.get(s, (0, 0))[1] for s in range(60)] for _, slots in rows]
    return make_blocks([key for key, _ in rows], values, quality)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.none() | st.tuples(any_parts(), st.integers(1, 2)), max_size=8))
def test_any_appends_and_compactions_give_the_join(database: Database, steps: list[tuple[Blocks, int] | None]) -> None:
    with database.writes.begin() as connection:
        for table in (batch, part, compacted):
            connection.execute(table.delete())
    writer = Writer(database)
    sent: list[Blocks] = []
    for step in steps:
        if step is None:
            compact(database, LATER + 900 * 10)
        else:
            parts, times = step
            writer.commit([append(parts)] * times)
            sent.append(parts)
        assert same(everything(database), join(sent))


SENT = [blocks({0: 5}), blocks({1: 6}, meter=10003), blocks({2: 7}, quarter=QUARTER - 1)]


def by_slot(database: Database) -> dict[tuple[int, int, int], dict[int, int]]:
    """Return the readings by block and slot."""
    found: Blocks = join(list(reads.all_blocks(database, 0, 2**31 - 1)))
    return {
        found.key(row): {int(slot): int(found.values[row, slot]) for slot in found.quality[row].nonzero()[0]}
        for row in range(len(found))
    }


def rows_of(database: Database, table: Table) -> int:
    with database.reads.begin() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def damage(database: Database, at: int) -> None:
    """Flip a bit of the only batch's payload."""
    with database.writes.begin() as connection:
        payload = bytearray(connection.execute(select(batch.c.payload)).scalar_one())
        payload[at] ^= 4
        connection.execute(batch.update().values(payload=bytes(payload)))


def asked(database: Database) -> set[tuple[int, int]]:
    with database.reads.begin() as connection:
        return {(row.meter_no, row.quarter) for row in connection.execute(select(gap).where(gap.c.is_open))}


Numbers = st.integers(0, 2**31 - 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(Numbers, Numbers, st.integers(0, 255), st.binary(max_size=40)), min_size=1), st.data())
def test_any_parts_are_unpacked_as_they_were(rows: list[tuple[Any, ...]], data: st.DataObject) -> None:
    *keys, payloads = zip(*rows, strict=True)
    names = ("quarter", "meter_no", "record_type")
    made = {name: np.array(each, np.int64) for name, each in zip(names, keys, strict=True)}
    parts = Parts(made, Payloads.of(payloads))
    packed = parts.row()["payload"]
    found = parts_of(packed)
    assert found is not None
    assert [*zip(*(each.tolist() for each in found.keys.values()), found.payloads, strict=True)] == rows
    cut = data.draw(st.integers(0, len(packed) - 1))
    assert parts_of(packed[:cut]) is None


def test_of_a_batch_with_a_damaged_part_only_that_part_is_lost(database: Database) -> None:
    Writer(database).commit([append(concatenate(SENT))])
    assert (rows_of(database, batch), rows_of(database, part)) == (2, 0), "the quarter before is apart"
    compact(database, LATER - 900)
    damage(database, -1)
    counted: list[int] = []
    database.count_damaged = counted.append
    expected = {(10001, 3, QUARTER): {0: 5}, (10001, 3, QUARTER - 1): {2: 7}}
    for _ in range(2):
        assert by_slot(database) == expected
    assert (sum(counted), rows_of(database, batch), rows_of(database, part)) == (1, 0, 1)
    assert asked(database) == {(3, QUARTER)}
    compact(database, LATER)
    assert by_slot(database) == expected
    assert (rows_of(database, part), rows_of(database, dead_letter)) == (0, 1)


@pytest.mark.parametrize("reader", [by_slot, lambda database: compact(database, LATER)])
def test_a_batch_whose_keys_are_damaged_is_asked_for_as_a_whole(database: Database, reader: Any) -> None:
    sent = [append(concatenate(SENT[:2]))]
    Writer(database).commit(sent)
    find_gaps(database, LATER)
    damage(database, 5)
    reader(database)
    assert (rows_of(database, batch), rows_of(database, part), rows_of(database, dead_letter)) == (0, 0, 1)
    find_gaps(database, LATER)
    assert asked(database) == {(1, QUARTER), (3, QUARTER)}
    Writer(database).commit(sent)
    assert by_slot(database) == {(10001, 3, QUARTER): {0: 5}, (10003, 3, QUARTER): {1: 6}}


def test_a_fresh_quarter_is_at_most_twenty_rows_a_microgrid(database: Database) -> None:
    writer, begin = Writer(database), QUARTER * QUARTER_S
    for minute in range(1, 16):
        sent = [blocks({4 * minute - 4 + slot: 1 for slot in range(4)})]
        if minute == 1:
            sent.append(blocks(dict.fromkeys(range(56, 60), 1), quarter=QUARTER - 1))
        writer.commit([append(concatenate(sent), received=begin + 60 * minute)])
    assert rows_of(database, batch) <= 20
    with database.reads.begin() as connection:
        finished = connection.execute(select(batch.c.first_quarter).where(batch.c.last_quarter < QUARTER)).all()
    assert finished == [(QUARTER - 1,)], "no batch of a finished quarter waits for the present one"
    assert compact(database, begin + 61) == 1
    assert by_slot(database) == {
        (10001, 3, QUARTER - 1): dict.fromkeys(range(56, 60), 1),
        (10001, 3, QUARTER): dict.fromkeys(range(60), 1),
    }


def test_an_owners_batches_are_compacted_together(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compactor_module, "MAX_PARTS", 5)
    writer, compactor = Writer(database), Compactor(database)
    for slot in range(3):
        other = replace(append(blocks({slot: 1}, meter=10005)), sender="r002", owner="r002")
        writer.commit([append(blocks({slot: 1})), other])
    made = []
    while (replacement := compactor.plan(LATER)) is not None:
        made.append((len(replacement.parts), len(replacement.old), compactor.apply(replacement)))
    assert made == [(3, 0, 1), (3, 0, 1)], "each block is made once"
    monkeypatch.setattr(compactor_module, "MAX_PARTS", 1)
    for slot in range(3, 6):
        writer.commit([append(blocks({slot: 1}))])
    assert compact(database, LATER) == 3, "what is too much for one transaction is done in several"
    assert rows_of(database, compacted) == 2
    assert by_slot(database)[10001, 3, QUARTER] == dict.fromkeys(range(6), 1)


def test_a_batch_compacted_by_another_is_passed_over(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compactor_module, "MAX_PARTS", 1)
    writer, compactor = Writer(database), Compactor(database)
    for slot in range(3):
        writer.commit([append(blocks({slot: 1}))])
    assert compactor.plan(LATER) is not None
    compact(database, LATER)
    writer.commit([append(blocks({3: 1}))])
    replacement = compactor.plan(LATER)
    assert replacement is not None
    assert compactor.apply(replacement) == 1
    assert compactor.plan(LATER) is None
    assert by_slot(database) == {(10001, 3, QUARTER): dict.fromkeys(range(4), 1)}


STATEMENTS: dict[str, Any] = {
    "parts": gaps._PARTS_OF,
    "full": gaps._FULL,
    "watched": gaps._WATCHED,
    "found": gaps._FOUND,
    "held": quarantined._QUARANTINED,
    "events": writer._EVENTS_OF,
}
TABLES = ("compacted", "part", "gap", "held", "event")


def plan(connection: Connection, execute: Callable[[], object]) -> list[str]:
    """Return the lines of the plan of what is executed first."""
    seen: list[tuple[str, Any]] = []

    def note(_: object, __: object, sql: str, values: Any, *rest: object) -> None:
        seen.append((sql, values))

    event.listen(connection, "before_cursor_execute", note)
    execute()
    event.remove(connection, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
    return [str(row[-1]).strip() for row in connection.exec_driver_sql(f"{explain} {seen[0][0]}", seen[0][1])]


@pytest.mark.parametrize("name", STATEMENTS)
def test_keys_are_looked_up_by_an_index(database: Database, name: str) -> None:
    with database.writes.begin() as connection:
        make_partitions(connection, [(2027, month) for month in range(1, 8)])
        connection.execute(CreateTable(batches.arrived))
        if connection.dialect.name == "postgresql":
            # It would read a table whole that is nearly empty.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        keys = [[(2**31 - 1 - n, 2**62 + n, n) for n in range(number)] for number in (2, 300)]
        few, many = (plan(connection, partial(connection.execute, STATEMENTS[name], listed(some))) for some in keys)
    assert len(few) == len(many)
    for table in TABLES:
        assert not [line for line in many if f"SCAN {table}" in line or f"Seq Scan on {table}" in line], many


@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.parametrize(
    "execute",
    [
        quarantined.count_quarantined,
        lambda connection: dead_letters(connection, 10, DeadLetterFilter(state=quarantined.QUARANTINED)),
    ],
)
def test_dead_letters_that_wait_are_found_by_their_index(
    database: Database, execute: Callable[[Connection], object]
) -> None:
    with database.reads.begin() as connection:
        found = plan(connection, partial(execute, connection))
    assert [line for line in found if "ix_letter_state" in line], found
