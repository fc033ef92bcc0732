"""Implausible readings: held back wherever they come from, and in a block only when a person says so."""

from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from typer.testing import CliRunner

from commonwatt.model.blocks import concatenate, join, make_blocks
from commonwatt.model.effects import Publish, Write
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import HistoryRecord, Rejection
from commonwatt.model.time.now import Now, Trust
from commonwatt.protocol.batches import Batch, BatchRefusal, unpack_batch_ack
from commonwatt.protocol.dead_letters import DeadLetter, DeadLetterSource
from harness.commands import logged_in, shown
from harness.real import databases
from harness.surroundings.sent import batch, blocks
from utility.assembly.cli import app
from utility.database.checks import row_crc
from utility.database.database import Database
from utility.readings.core import Core
from utility.readings.events import FromGateway
from utility.readings.store import completeness, reads
from utility.readings.store.compactor import Compactor
from utility.readings.store.dead_letters import dead_letters
from utility.readings.store.gap_finder import GapFinder
from utility.readings.store.quarantine import QUARANTINED, REFUSED, RELEASED, Decision, count_quarantined, decide
from utility.readings.store.writer import Writer
from utility.readings.tables import batch as batch_table
from utility.readings.tables import compacted, quarantined
from utility.registry.store.registry import load_snapshot
from utility.registry.tables import meter

QUARTER = 2_000_000
BEGIN = QUARTER * 900
NOW = BEGIN + 900
LATER = NOW + 7200
AGE = 1800
TOO_MUCH = 250_001  # in one slot, through a service of 200 A: houses have that


class Bench:
    """The utility's core and store, fed with batches."""

    def __init__(self, database: Database) -> None:
        self.database = database
        with database.reads.begin() as connection:
            self.core = Core(7, load_snapshot(connection), AGE)
        self.writer = Writer(database)

    def send(self, batch: Batch, sender: str = "r001") -> BatchRefusal:
        step = self.core.handle(FromGateway(f"cw1/{sender}/u/batch", batch.pack()), Now(NOW, Trust.NONE))
        self.writer.commit([effect.change for effect in step.effects if isinstance(effect, Write)])
        (ack,) = [effect for effect in step.effects if isinstance(effect, Publish)]
        told = unpack_batch_ack(ack.payload)
        assert told.status or (told.blocks, told.dead_letters) == (len(batch.keys), len(batch.dead_letters))
        return told.status

    def slots(self) -> dict[int, int]:
        """The values of meter 10001's slots in the quarter, as everybody reads them."""
        blocks = reads.readings(self.database, 1, 3, QUARTER, QUARTER)
        found = blocks if len(blocks) else make_blocks([(10001, 3, QUARTER)], [[0] * 60], [[0] * 60])
        return {s: v for s, (v, q) in enumerate(zip(found.values[0], found.quality[0], strict=True)) if q}

    def states(self) -> list[str]:
        with self.database.reads.begin() as connection:
            return [kept.state for kept in dead_letters(connection, 100)]

    def decide(self, no: int, state: str) -> None:
        with self.database.writes.begin() as connection:
            decide(connection, Decision(no, state, "Ann", "new service", LATER))

    def told(self) -> dict[str, int]:
        (one,) = completeness.completeness(self.database, QUARTER, QUARTER + 1)
        return {name: count for name, count in vars(one.counts).items() if count}


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)


def record(slot: int, reading: int = TOO_MUCH, **fields: int) -> HistoryRecord:
    start = BEGIN + 15 * slot
    given = {"record_type": 3, "lossy": 0, "record_id": 9, "meter_id": 10001, "account": 1, "start": start}
    return HistoryRecord(**{**given, "end": start + 15, "reading": reading, **fields})


def relayed(content: bytes, reason: int = Rejection.IMPLAUSIBLE, meter: int = 10001) -> DeadLetter:
    return DeadLetter(meter=meter, log=1, reason=reason, generation=1, record_id=9, time=NOW, content=content)


@databases.on_both_kinds
def test_a_relayed_letter_is_held_until_it_is_released(bench: Bench) -> None:
    sent = batch(blocks({0: 5}), dead_letters=[relayed(record(1).pack())])
    bench.send(sent)
    bench.send(sent)
    assert (bench.slots(), bench.states()) == ({0: 5}, [QUARANTINED])
    assert bench.told() == {"exact": 1, "quarantined": 1, "missing": 58}

    bench.decide(1, RELEASED)
    assert bench.slots() == {0: 5, 1: TOO_MUCH}
    assert bench.told() == {"exact": 2, "missing": 58}
    bench.send(sent)
    assert bench.states() == [RELEASED], "what was decided stays so, when it comes again"


def test_a_refused_reading_stays_a_letter_and_its_slot_says_why_it_is_missing(bench: Bench) -> None:
    bench.send(batch(blocks({0: 5}), dead_letters=[relayed(record(1).pack())]))
    bench.decide(1, REFUSED)
    assert (bench.slots(), bench.states()) == ({0: 5}, [REFUSED])
    assert bench.told() == {"exact": 1, "refused": 1, "missing": 58}
    with bench.database.reads.begin() as connection:
        (kept,) = dead_letters(connection, 10)
        assert kept.dead_letter.content == record(1).pack()
        assert kept.decided.startswith("Ann, ")
        assert kept.decided.endswith(": new service")


def test_the_utility_sets_apart_what_a_gateway_let_through(bench: Bench) -> None:
    sent = batch(concatenate([blocks({0: 5, 1: TOO_MUCH, 2: 250_000}), blocks({4: 1}, quarter=QUARTER - 1)]))
    assert bench.send(sent) is BatchRefusal.NONE
    bench.send(sent)
    assert (bench.slots(), bench.states()) == ({0: 5, 2: 250_000}, [QUARANTINED])
    assert sum(blocks.values.sum() for blocks in reads.all_blocks(bench.database, 0, 2**31 - 1)) == 250_006
    bench.decide(1, RELEASED)
    assert bench.slots() == {0: 5, 1: TOO_MUCH, 2: 250_000}


def test_of_different_values_of_one_slot_only_the_implausible_are_set_apart(bench: Bench) -> None:
    bench.send(batch(join([blocks({0: 5}), blocks({0: TOO_MUCH}), blocks({0: 7}), blocks({0: TOO_MUCH + 1})])))
    (good,) = reads.all_blocks(bench.database, 0, 2**31 - 1)
    assert (good.values[0, 0], good.extras_of(0)) == (5, [(0, 7)])
    bench.decide(1, RELEASED)
    (released,) = reads.all_blocks(bench.database, 0, 2**31 - 1)
    assert released.extras_of(0) == [(0, 7), (0, TOO_MUCH), (0, TOO_MUCH + 1)]


def test_a_block_of_nothing_but_implausible_slots_leaves_no_part(bench: Bench) -> None:
    bench.send(batch(blocks(dict.fromkeys(range(60), TOO_MUCH))))
    with bench.database.reads.begin() as connection:
        assert connection.execute(select(func.count()).select_from(batch_table)).scalar_one() == 0
        assert connection.execute(select(quarantined.c.mask)).scalar_one() == 2**60 - 1
        assert count_quarantined(connection) == 1


def test_a_block_without_any_slot_is_acknowledged_and_leaves_no_part(bench: Bench) -> None:
    bench.send(batch(concatenate([blocks({}), blocks({1: 5}, quarter=QUARTER - 1)])))
    with bench.database.reads.begin() as connection:
        assert connection.execute(select(batch_table.c.first_quarter, batch_table.c.blocks)).all() == [(QUARTER - 1, 1)]


@pytest.mark.parametrize(
    "dead_letter",
    [
        relayed(record(1).pack(), Rejection.UNALIGNED),
        relayed(record(1).pack(), meter=20001),
        relayed(record(1, meter_id=20001).pack()),
        relayed(record(1).pack(), meter=555),
        relayed(record(1, record_type=4).pack()),
        relayed(record(1, start=BEGIN + 1).pack()),
        relayed(b"nonsense"),
        DeadLetter(
            meter=10001,
            log=DeadLetterSource.BLOCK,
            reason=15,
            generation=0,
            record_id=1,
            time=NOW,
            content=b"\x03" + bytes(4) + b"damaged payload",
        ),
        DeadLetter(
            meter=10001, log=DeadLetterSource.BLOCK, reason=15, generation=0, record_id=1, time=NOW, content=b""
        ),
    ],
)
def test_a_letter_that_can_never_be_a_reading_is_not_held(bench: Bench, dead_letter: DeadLetter) -> None:
    bench.send(batch(dead_letters=[dead_letter]))
    assert bench.states() == [""]
    with pytest.raises(ConfigError, match="is not quarantined"):
        bench.decide(1, RELEASED)


def test_a_decision_is_taken_once_and_of_a_letter_that_is_there(bench: Bench) -> None:
    bench.send(batch(dead_letters=[relayed(record(1).pack())]))
    with pytest.raises(ConfigError, match="dead letter 5: there is none"):
        bench.decide(5, RELEASED)
    bench.decide(1, REFUSED)
    with pytest.raises(ConfigError, match="is refused already"):
        bench.decide(1, RELEASED)


@pytest.mark.parametrize(("state", "slots"), [(RELEASED, {1: TOO_MUCH, 2: TOO_MUCH}), (REFUSED, {})])
def test_what_is_held_can_be_decided_after_its_meter_got_another_account_and_other_types(
    bench: Bench, state: str, slots: dict[int, int]
) -> None:
    bench.send(batch(blocks({2: TOO_MUCH}), dead_letters=[relayed(record(1).pack())]))
    with bench.database.writes.begin() as connection:
        row = connection.execute(select(meter).where(meter.c.label == "10001")).one()
        changed = {**row._mapping, "account": 7, "record_types": "1,2"}
        connection.execute(update(meter).where(meter.c.no == row.no).values(changed | {"crc": row_crc(meter, changed)}))
    for no in (1, 2):
        bench.decide(no, state)
    assert (bench.slots(), bench.states()) == (slots, [state, state])


def test_held_and_refused_slots_are_not_asked_for(bench: Bench) -> None:
    ordinary = blocks({slot: 1 for slot in range(60) if slot not in (3, 4)})
    more = relayed(record(4, reading=TOO_MUCH + 1).pack())
    bench.send(batch(ordinary, dead_letters=[relayed(record(3).pack()), more]))
    bench.decide(1, REFUSED)
    finder = GapFinder(bench.database)
    assert QUARTER not in {wanted.quarter for _, _, wanted in finder.plan(LATER, AGE).wanted}


def test_a_released_reading_is_compacted_like_any_other(bench: Bench) -> None:
    compactor = Compactor(bench.database)
    bench.send(batch(blocks({0: 5}), dead_letters=[relayed(record(1).pack())]))
    for state in (None, RELEASED):
        if state:
            bench.decide(1, state)
        replacement = compactor.plan(LATER)
        assert replacement is not None
        compactor.apply(replacement)
    with bench.database.reads.begin() as connection:
        assert connection.execute(select(compacted.c.total)).scalars().all() == [TOO_MUCH + 5]


def test_a_long_record_is_held_whole(bench: Bench) -> None:
    bench.send(batch(dead_letters=[relayed(record(58, end=BEGIN + 900 + 45).pack())]))
    with bench.database.reads.begin() as connection:
        found = connection.execute(
            select(quarantined.c.quarter, quarantined.c.mask).order_by(quarantined.c.quarter)
        ).all()
    assert [tuple(row) for row in found] == [(QUARTER, 3 << 58), (QUARTER + 1, 7)]
    bench.decide(1, RELEASED)
    assert bench.slots() == {58: TOO_MUCH, 59: TOO_MUCH}


@databases.on_both_kinds
def test_a_clerk_sees_decides_and_counts(bench: Bench, tmp_path: Path, url: str) -> None:
    bench.send(
        batch(dead_letters=[relayed(record(1).pack()), relayed(record(2).pack()), relayed(b"x", Rejection.EMPTY)])
    )
    config = tmp_path / "utility.toml"
    config.write_text(f'[utility]\ndatabase = "{url}"\n')

    def run(*words: str, code: int = 0) -> str:
        with logged_in(bench.database, config, words) as left:
            done = CliRunner(env={"COLUMNS": "120"}).invoke(app, ["dead-letters", *left, "--config", str(config)])
        assert done.exit_code == code, done.output
        return " ".join(done.output.split())

    letters = shown(config, "dead-letters", "state=quarantined")["dead_letters"]
    assert letters[-1]["told"].startswith("type 3, 08:00:15-08:00:30, 250001 mWh")
    assert run("--release", "3", "--refuse", "2", "--as", "ann", "--why", "seen").count(" by ann") == 2
    letters = shown(config, "dead-letters", "meter=10001")["dead_letters"]
    assert {(one["reason_text"], one["state"]) for one in letters} == {
        ("empty", ""), ("implausible", "released"), ("implausible", "refused"),
    }  # fmt: skip
    assert all(one["decided"].startswith("ann, ") for one in letters if one["state"])
    assert [one["reason_text"] for one in shown(config, "dead-letters", "reason=empty")["dead_letters"]] == ["empty"]
    assert shown(config, "dead-letters", "state=quarantined")["dead_letters"] == []
    assert "is released already" in run("--refuse", "3", "--as", "ann", code=2)
    assert "log in with: commonwatt login" in run("--refuse", "3", code=2)
    assert "give --release NO or --refuse NO" in run(code=2)
