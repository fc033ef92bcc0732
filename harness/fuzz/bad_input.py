"""Bad input of every kind at every input of the real cores and stores: the cases of docs/limits.md.

Each door is a function that takes a case and returns what was seen of it: the answer, what was counted, and the dead
letters kept. The cases are found by the words of the page's first column.
"""

import asyncio
import json
import random
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import zstandard
from prometheus_client import CollectorRegistry

from commonwatt.codec.packing import pack
from commonwatt.codec.packing_arrays import Payloads
from commonwatt.device.changes import DesiredStates, MeterState, StoredMeter
from commonwatt.device.meter import MeterCore, MeterLimits
from commonwatt.model.blocks import Blocks, make_blocks
from commonwatt.model.effects import Publish
from commonwatt.model.records import EventRecord, Log, RecordType, Rejection, State
from commonwatt.model.time import Trust
from commonwatt.model.units import MAX_EPOCH
from commonwatt.protocol.batches import MAX_BATCH_BLOCKS, Batch, BatchAck, BatchRefusal, unpack_batch_ack
from commonwatt.protocol.commands import Outcome
from commonwatt.protocol.dead_letters import DeadLetter, reason_text
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.meter_messages import LiveLevel, Put, unpack_put, unpack_put_ack
from commonwatt.runtime.clock import Clock
from commonwatt.runtime.metric_families import registry_of
from commonwatt.town.loading import load_town
from commonwatt.town.town import Battery
from gateway.shown.metrics import ShellFigures, gateway_metrics
from harness.surroundings.gateway import CAPACITY, START, World, batches, readings
from harness.surroundings.messages import a_record, ack_of, house_meter, ingest_of
from utility.assembly.metrics import UtilityMetrics
from utility.database.database import Database, open_database
from utility.readings.store.dead_letters import dead_letters
from utility.registry.store.registration import fill_registry

DEEP = b"[" * 8_000 + b"]" * 8_000
LONG_NUMBER = b"9" * 10_000
KILOBYTES_256 = 256 * 1024
NOISE = random.Random(3).randbytes(KILOBYTES_256)


@dataclass(frozen=True)
class Seen:
    """The result of one input."""

    answer: str  # name of the refusal, rejection or result in the answer to the sender; empty: no answer
    counted: frozenset[str]  # labels, or ``counter label``, that were counted up
    kept: tuple[str, ...]  # reasons of the dead letters that are new, by name
    contents: tuple[bytes, ...] = ()  # what those dead letters hold


Samples = dict[str, float]


def samples(registry: CollectorRegistry, *names: str) -> Samples:
    """Read counters: by label alone if there is one name, else by name and label."""
    found: Samples = {}
    for metric in registry.collect():
        short = metric.name.split("_", 2)[2] if metric.name.count("_") > 1 else metric.name
        if short in names:
            for sample in metric.samples:
                label = next(iter(sample.labels.values()), "")
                found[label if len(names) == 1 else f"{short} {label}"] = sample.value
    return found


def grown(before: Samples, after: Samples) -> frozenset[str]:
    return frozenset(name for name, value in after.items() if value > before.get(name, 0))


def with_crc(data: bytes) -> bytes:
    return data + struct.pack(">I", zlib.crc32(data))


def flipped(data: bytes) -> bytes:
    return data[:-6] + bytes([data[-6] ^ 4]) + data[-5:]


# The gateway


class GatewayBench:
    """A gateway's core and store, and its metrics."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder / "gateway.db")
        self.registry = registry_of(lambda: gateway_metrics(self.world.controller, ShellFigures()))
        for meter in (1, 2):
            self.world.introduce(meter)
        self._next = 1

    def close(self) -> None:
        self.world.store.close()

    def good(self) -> None:
        """Check that good input is accepted after, and between, bad input."""
        at = START + 15 * self._next
        self.world.now = max(self.world.now, at + 15)
        ack = self.world.put(2, self._next, readings(2, self._next, 1, start=at))
        assert (ack.accepted, ack.rejected) == (((3, 1),), ())
        self._next += 1

    def play(self, do: Callable[[], str], *names: str) -> Seen:
        """Perform a case; return the answer, the counts and the dead letters."""
        before, known = samples(self.registry, *names), len(self.world.store.dead_letters())
        answer = do()
        new = self.world.store.dead_letters()[known:]
        counted = grown(before, samples(self.registry, *names))
        self.good()
        return Seen(
            answer=answer,
            counted=counted,
            kept=tuple(reason_text(x.reason) for x in new),
            contents=tuple(x.content for x in new),
        )


PUT = Put(log=Log.HISTORY, generation=1, first_id=1, last_id=2, records=tuple(r.pack() for r in readings(1, 1, 2)))
EVENT = EventRecord(previous_state=1, new_state=17, record_id=1, meter_id=1, time=START)
EVENTS_PUT = Put(log=Log.EVENT, generation=1, first_id=1, last_id=1, records=(EVENT.pack(),))


def _put_with(**changes: int) -> bytes:
    """The put with other numbers in its head, its checksum right."""
    at = {"version": (0, 1), "log": (1, 1), "count": (2, 2), "first_id": (8, 8), "last_id": (16, 8)}
    data = bytearray(PUT.pack()[:-4])
    for name, value in changes.items():
        start, length = at[name]
        data[start : start + length] = value.to_bytes(length, "big")
    return with_crc(bytes(data))


def _days() -> bytes:
    day = readings(1, 1, 1)[0]
    records = [day._replace(record_id=i, start=START - 86_400, end=START) for i in range(1, 101)]
    return Put(log=Log.HISTORY, generation=1, first_id=1, last_id=100, records=tuple(r.pack() for r in records)).pack()


PUTS: dict[str, bytes] = {
    "nothing at all": b"",
    "a put cut short": PUT.pack()[:-9],
    "a put with bytes behind it": PUT.pack() + b"more",
    "a put with one bit flipped": flipped(PUT.pack()),
    "a put of version 2": _put_with(version=2),
    "a put of a log there is not": _put_with(log=9),
    "a put of events on `rec`": EVENTS_PUT.pack(),
    "more records than ids": _put_with(last_id=1),
    "a range that runs backwards": _put_with(first_id=5, last_id=2),
    "ids beyond 2^63": _put_with(first_id=2**63, last_id=2**63 + 1),
    "1,001 records": _put_with(count=1001),
    "a range of two million ids": _put_with(last_id=2_000_000),
    "a hundred records of a day each": _days(),
    "256 KB of noise": NOISE,
    "256 KB of zeros": bytes(KILOBYTES_256),
    "JSON instead": b'{"v":1,"record_type":3,"start_time":1790000100}',
    "a put of a meter that is not registered": PUT.pack(),
}


def play_put(bench: GatewayBench, case: str) -> Seen:
    meter = 99 if case.endswith("not registered") else 1

    def do() -> str:
        (sent,) = bench.world.meter_says(meter, "rec", PUTS[case])
        return unpack_put_ack(sent.payload).status.name

    return bench.play(do, "puts")


RECORD = readings(1, 2, 1, start=START + 15)[0]
RECORDS: dict[str, dict[str, int]] = {
    "another meter's id": {"meter_id": 2},
    "a record type there is not": {"record_type": 200},
    "a type this meter does not have": {"record_type": 4},
    "another account": {"account": 65_535},
    "a flag that is neither 0 nor 1": {"lossy": 255},
    "a start off the grid": {"start": START + 1},
    "an average over two groups": {"lossy": 1, "start": START + 135, "end": START + 165},
    "an end before the start": {"end": 0},
    "more than a day": {"start": START - 86_415, "end": START},
    "a reading beyond 2^53": {"reading": 2**63 - 1},
    "a reading below zero": {"reading": -1},
    "a time far in the future": {"start": 2**32 - 31, "end": 2**32 - 16},
    "an id outside the put's range": {"record_id": 2**64 - 1},
    "more than the service carries": {"reading": 250_001},
    "more than the battery holds": {"record_type": 2, "reading": CAPACITY * 2},
    "a time long ago": {"start": 0, "end": 15},
    "a reading of a slot that has one": {},
    "another reading of a slot that has one": {"reading": 777},
}


def play_record(bench: GatewayBench, case: str) -> Seen:
    """The bad record stands in a put with a good one; slot 1 has its reading already."""
    bench.world.put(1, 2, [RECORD])
    good, bad = readings(1, 11, 1)[0], RECORD._replace(record_id=12)
    bad = bad._replace(**RECORDS[case])

    def do() -> str:
        ack = bench.world.put(1, 11, [good, bad], last_id=12)
        assert sum(count for _, count in ack.accepted) == 2 - len(ack.rejected)
        return ",".join(why.name for _, why in ack.rejected)

    return bench.play(do, "rejected_records")


EVENT_RECORDS: dict[str, dict[str, int]] = {
    "an event of another meter": {"meter_id": 2},
    "a state bit there is not": {"new_state": 0x8000},
    "an event of the future": {"time": 2**32 - 1},
    "an event outside the put's range": {"record_id": 77},
    "another event under a number that is taken": {"record_id": 1, "new_state": 3},
    "the same event again": {"record_id": 1},
}


def play_event(bench: GatewayBench, case: str) -> Seen:
    bench.world.put(1, 1, [EVENT])
    bad = replace(EVENT, **{"record_id": 2, **EVENT_RECORDS[case]})

    def do() -> str:
        ack = bench.world.put(1, 1, [bad], last_id=2)
        return ",".join(why.name for _, why in ack.rejected)

    return bench.play(do, "rejected_records")


def outcome_with(**changes: object) -> bytes:
    said = {"v": 1, "id": "x", "cmd": "get", "result": "done", "time": START, "bits": 1, "push": True}
    return json.dumps(said | changes).encode()


def outcome_of(value: bytes, key: bytes = b"time") -> bytes:
    """An outcome with JSON of any kind under a key."""
    return outcome_with()[:-1] + b',"' + key + b'":' + value + b"}"


LEVEL = LiveLevel(state=1, time=START, level=CAPACITY // 2)
LEVELS: dict[str, bytes] = {
    "a level cut short": LEVEL.pack()[:-1],
    "a level with one bit flipped": flipped(LEVEL.pack()),
    "a level of version 2": with_crc(b"\x02" + LEVEL.pack()[1:-4]),
    "a level below zero": replace(LEVEL, level=-5).pack(),
    "a level the battery can't have": replace(LEVEL, level=2**53).pack(),
    "a level with an unknown state bit": replace(LEVEL, state=0x4001).pack(),
    "a level of a meter that is not registered": LEVEL.pack(),
}
OUTCOMES: dict[str, bytes] = {
    "an outcome that is not JSON": b"done",
    "an outcome that is a list": b"[" + outcome_with() + b"]",
    "an outcome that is null": b"null",
    "an outcome of nulls": outcome_with(id=None, cmd=None, time=None, bits=None, push=None),
    "an outcome of an unknown version": outcome_with(v=2),
    "a result there is not": outcome_with(result="perhaps"),
    "brackets nested 8,000 deep": outcome_of(b"[" * 8000 + b"]" * 8000, b"held"),
    "a number of 10,000 digits": outcome_of(LONG_NUMBER),
    "a number of a million digits": outcome_of(b"9" * 1_000_000),
    "a number that is NaN": outcome_of(b"NaN"),
    "a lone surrogate": outcome_of(b'"\\ud800"', b"id"),
    "bytes that are no UTF-8": outcome_of(b'"\xff\xfe"', b"id"),
    "a number beyond 64 bits": outcome_of(b"18446744073709551616"),
    "an outcome of a meter that is not registered": outcome_with(),
    "a topic that is no meter's": outcome_with(),
    "a key that is there twice": outcome_of(b"5", b"bits"),
    "an unknown key": outcome_of(LONG_NUMBER[:4000], b"comment"),
}


def play_quiet(bench: GatewayBench, case: str) -> Seen:
    leaf, payload = ("lvl", LEVELS[case]) if case in LEVELS else ("out", OUTCOMES[case])
    meter = 99 if case.endswith("not registered") else 1
    topic = "cw1/r001/x/u/out" if case.startswith("a topic") else f"cw1/r001/{meter}/u/{leaf}"

    def do() -> str:
        answers = bench.world.do(bench.world.core.from_meter(topic, payload, bench.world.now))
        assert answers == []
        return ""

    return bench.play(do, "unreadable_messages")


# The head-end's messages to a gateway


def order(**changes: object) -> bytes:
    return json.dumps({"v": 1, "id": "u1", "cmd": "get", "until": START + 10**6, **changes}).encode()


ORDERS: dict[str, bytes] = {
    "an order that is not JSON": DEEP,
    "an order there is not": order(cmd="explode"),
    "an order without a key that it needs": order(cmd="reduce"),
    "an order with a period of a second": order(cmd="schedule", periods={"relay_s": 1}),
    "an order for 10^300 seconds": order(cmd="aggregate", for_s=10**300),
    "an order of 256 KB": order(blocks=[["1", 3, 5, "f"]] * 20_000),
    "an order whose time has passed": order(until=5),
    "a topic that is not for gateways": order(),
}


def play_head_end(bench: GatewayBench, case: str) -> Seen:
    world = bench.world
    if case in ORDERS:
        leaf, payload = "cmd" if case.startswith("an order") else "batch", ORDERS[case]
    else:
        bench.good()
        (batch,) = batches(world.tick("relay_s"))
        leaf, payload = "ack", _batch_ack(case, batch)

    def do() -> str:
        answers = [p for p in world.utility_says(leaf, payload) if p.topic.endswith("/u/out")]
        return json.loads(answers[0].payload)["result"] if answers else ""

    return bench.play(do, "unreadable_messages", "batches")


def _batch_ack(case: str, batch: Batch) -> bytes:
    ack = BatchAck(time=START, utility_store=7, store=batch.store, sequence=batch.sequence, blocks=len(batch.keys))
    return {
        "a batch acknowledgement cut short": ack.pack()[:-1],
        "a batch acknowledgement with one bit flipped": flipped(ack.pack()),
        "a batch acknowledgement with an unknown status": with_crc(b"CWA1\x63" + ack.pack()[5:-4]),
        "a batch acknowledgement of another store": replace(ack, store=batch.store ^ 1).pack(),
        "a batch acknowledgement of no batch": replace(ack, sequence=1).pack(),
        "a batch acknowledgement of other counts": replace(ack, blocks=len(batch.keys) + 1).pack(),
    }[case]


# The meter


class MeterBench:
    """An emulated meter with readings in flight."""

    def __init__(self) -> None:
        self.tally: Counter[tuple[str, str]] = Counter()
        battery = Battery(capacity=CAPACITY, minimum_percent=50)
        description = house_meter(60, battery=battery, record_types=(RecordType.STORED,))
        state = StoredMeter(state=MeterState(meter=60, generation=START), desired_states=DesiredStates(60, (0, 0), {}))
        self.meter = MeterCore(description, MeterLimits(resolution=100, log_records=1000), state, self.tally)
        self.meter.boot(START, power_lost=True)
        self.meter.measure(START + 15, {RecordType.STORED: 100})
        self._number = 100
        self._tell("cmd", command("share_power_off", seq=50, epoch=[3, 0]))

    def _tell(self, leaf: str, payload: bytes) -> list[Publish]:
        return [e for e in self.meter.receive(leaf, payload, START + 20) if isinstance(e, Publish)]

    def put_in_flight(self) -> Put:
        sent = self._tell("cmd", command("get", what="records", epoch=[3, 0]))
        return unpack_put(next(p.payload for p in sent if p.topic.endswith("/rec")))

    def play(self, leaf: str, payload: bytes) -> Seen:
        """Send the meter a message; afterwards it must still obey a good command."""
        before = self.tally.copy()
        answers = [Outcome.model_validate_json(p.payload) for p in self._tell(leaf, payload) if p.topic.endswith("out")]
        counted = frozenset(f"{kind}s {result}" for (kind, result), _ in (self.tally - before).items())
        self._number += 1
        (good,) = self._tell("cmd", command("reduce_power_off", seq=self._number, epoch=[3, 0]))
        assert json.loads(good.payload)["result"] == "done"
        return Seen(answers[0].result if answers else "", counted, ())


def command(cmd: str, **fields: object) -> bytes:
    return json.dumps({"v": 1, "id": "c1", "cmd": cmd, "issuer": "r001", "epoch": [3, 0], **fields}).encode()


COMMANDS: dict[str, bytes] = {
    "a command that is not JSON": b"\x00\x01",
    "a command nested 8,000 deep": b'{"id":' + b"[" * 8_000,
    "a command of 20 KB": command("get", what="state", comment="x" * 20_000),
    "a command there is not": command("explode"),
    "a command of another version": command("get", v=2, what="state"),
    "a command with both `until` and `for_s`": command("share_power_on", seq=60, until=START + 90, for_s=60),
    "a state without a number": command("share_power_on", until=START + 900),
    "a state without an end": command("share_power_on", seq=60),
    "a state whose end has passed": command("share_power_on", seq=60, until=START),
    "a command of an epoch gone by": command("share_power_on", seq=60, until=START + 900, epoch=[2, 9]),
    "a number gone by": command("share_power_on", seq=49, until=START + 900),
}


def play_meter(case: str) -> Seen:
    bench = MeterBench()
    if case in COMMANDS:
        return bench.play("cmd", COMMANDS[case])
    put = bench.put_in_flight()
    ack = ack_of(put, START)
    data = {
        "an acknowledgement cut short": ack.pack()[:-1],
        "an acknowledgement with one bit flipped": flipped(ack.pack()),
        "an acknowledgement of another range": replace(ack, last_id=put.last_id + 1).pack(),
        "an acknowledgement of another generation": replace(ack, generation=1).pack(),
        "an acknowledgement of too few records": replace(ack, accepted=()).pack(),
    }[case]
    seen = bench.play("ack", data)
    assert bench.put_in_flight().records == put.records, "nothing was deleted"
    return seen


# The utility

QUARTER = START // 900
TOWN = 'microgrid = [{id = "r", kind = "residential", count = 2, houses = 2}]\n'


class UtilityBench:
    """The utility's ingest on a real database, its metrics, and what it answers."""

    def __init__(self, folder: Path) -> None:
        (folder / "town.toml").write_text(TOWN)
        self.database: Database = open_database(f"sqlite:///{folder}/utility.db", create=True)
        with self.database.writes.begin() as connection:
            fill_registry(connection, load_town(folder / "town.toml"))
        self.metrics = UtilityMetrics()
        self.sent: list[Publish] = []
        clock = Clock(origin=START + 900, monotonic_origin=0, speed=0)
        self.ingest = ingest_of(self.database, clock, self.sent.append, metrics=self.metrics, trust=Trust.NETWORK)
        self._slot = 0

    def close(self) -> None:
        self.ingest.close()
        self.database.close()

    def tell(self, topic: str, payload: bytes) -> list[Publish]:
        """Take one message in, as the running service does; return the answers."""
        self.sent.clear()
        asyncio.run(self.ingest.take_in([(topic, payload)]))
        return list(self.sent)

    def kept(self) -> list[DeadLetter]:
        with self.database.reads.begin() as connection:
            return [kept.dead_letter for kept in reversed(dead_letters(connection, 10_000))]

    def good(self) -> None:
        self._slot = (self._slot + 1) % 60
        (answer,) = self.tell("cw1/r001/u/batch", batch_of(block(slot=self._slot, value=self._slot)).pack())
        assert unpack_batch_ack(answer.payload).status is BatchRefusal.NONE

    def play(self, topic: str, payload: bytes) -> Seen:
        before, known = samples(self.metrics.registry, "messages"), len(self.kept())
        answers = [p for p in self.tell(topic, payload) if p.topic.endswith("/d/ack")]
        new = self.kept()[known:]
        counted = grown(before, samples(self.metrics.registry, "messages"))
        self.good()
        answer = unpack_batch_ack(answers[0].payload).status.name if answers else ""
        return Seen(
            answer=answer,
            counted=counted,
            kept=tuple(reason_text(x.reason) for x in new),
            contents=tuple(x.content for x in new),
        )


def block(slot: int = 0, value: int = 5, *, meter: int = 10001, kind: int = 3, quarter: int = QUARTER) -> Blocks:
    values, quality = [0] * 60, [0] * 60
    values[slot], quality[slot] = value, 2
    return make_blocks([(meter, kind, quarter)], [values], [quality])


def batch_of(blocks: Blocks, **changes: Any) -> Batch:
    made = Batch(
        owner="r001",
        store=1,
        sequence=1,
        time=START,
        keys=blocks.keys(),
        payloads=pack(blocks),
        events=[],
        dead_letters=[],
    )
    return replace(made, **changes)


def head_with(data: bytes, *, at: int, value: int) -> bytes:
    """A batch with another 32-bit number in its head, its checksum right."""
    return with_crc(data[:at] + value.to_bytes(4, "big") + data[at + 4 : -4])


def _bomb() -> bytes:
    """Four gigabytes of zeros, squeezed into a small frame that does not say how large it is."""
    frame = zstandard.ZstdCompressor(level=1, write_content_size=False).compress(bytes(64 * 2**20))
    head = bytearray(batch_of(block()).pack()[:48])
    return with_crc(bytes(head) + frame)


STATUS = Heartbeat(time=START, store=7, backlog_parts=0, backlog_events=0, backlog_letters=0, aggregation="none").pack()
_EVENT = EventRecord(previous_state=0, new_state=State.INITIALIZED, record_id=1, meter_id=10001, time=START)
_GOOD = batch_of(block()).pack()
_DEAD_LETTER = DeadLetter(
    meter=20001,
    log=Log.HISTORY,
    reason=Rejection.IMPLAUSIBLE,
    generation=1,
    record_id=1,
    time=START,
    content=a_record(START, 250_001, meter=20001, account=2).pack(),
)
AT_UTILITY: dict[str, tuple[str, bytes]] = {
    "an empty batch message": ("batch", b""),
    "a batch cut short": ("batch", _GOOD[:-3]),
    "a batch with one bit flipped": ("batch", flipped(_GOOD)),
    "300 KB that begin like a batch": ("batch", _GOOD[:48] + bytes(300 * 1024)),
    "a body that expands without end": ("batch", _bomb()),
    "more blocks than a batch may have": ("batch", head_with(_GOOD, at=28, value=MAX_BATCH_BLOCKS + 1)),
    "dead letters that overlap the end": ("batch", head_with(_GOOD, at=36, value=3)),
    "a block whose payload is damaged": ("batch", batch_of(block(), payloads=Payloads.of([bytes(12)])).pack()),
    "a block filed under another meter": ("batch", batch_of(block(), payloads=pack(block(meter=10002))).pack()),
    "a block of a quarter beyond all time": ("batch", batch_of(block(quarter=2**32 - 1)).pack()),
    "a block of an unknown meter": ("batch", batch_of(block(meter=555)).pack()),
    "a block of another microgrid's meter": ("batch", batch_of(block(meter=20001)).pack()),
    "an event of another microgrid's meter": (
        "batch",
        batch_of(block(), events=[(1, replace(_EVENT, meter_id=20001))]).pack(),
    ),
    "an implausible dead letter of another microgrid's meter": (
        "batch",
        batch_of(block(), dead_letters=[_DEAD_LETTER]).pack(),
    ),
    "a block of a type the meter does not have": ("batch", batch_of(block(kind=4)).pack()),
    "data of an unknown microgrid": ("batch", batch_of(block(), owner="r009").pack()),
    "an event of an unknown meter": (
        "batch",
        batch_of(block(), events=[(1, replace(_EVENT, meter_id=555))]).pack(),
    ),
    "a batch of a gateway that is not registered": ("batch", _GOOD),
    "an event that contradicts a kept one": (
        "batch",
        batch_of(block(), events=[(1, replace(_EVENT, new_state=3))]).pack(),
    ),
    "a block with a reading below zero": ("batch", batch_of(block(value=-1)).pack()),
    "a block with a reading beyond 2^53": ("batch", batch_of(block(value=2**53 + 1)).pack()),
    "a block of the year 2106": ("batch", batch_of(block(quarter=MAX_EPOCH // 900)).pack()),
    "a block of a day ahead": ("batch", batch_of(block(quarter=QUARTER + 96)).pack()),
    "an event of the year 2106": ("batch", batch_of(block(), events=[(2, replace(_EVENT, time=MAX_EPOCH))]).pack()),
    "an event with a state bit there is not": (
        "batch",
        batch_of(block(), events=[(2, replace(_EVENT, new_state=0x8000))]).pack(),
    ),
    "a reading beyond the service": ("batch", batch_of(block(value=250_001)).pack()),
    "a heartbeat that is not JSON": ("stat", DEEP[:5000]),
    "a heartbeat of nulls": ("stat", b'{"v":1,"time":null,"store":null,"backlog_parts":null}'),
    "a heartbeat of numbers beyond 64 bits": (
        "stat",
        STATUS.replace(b'"backlog_parts":0', b'"backlog_parts":' + b"9" * 400),
    ),
    "an outcome without an id": ("out", b'{"v":1,"cmd":"get","result":"done","time":5}'),
    "an outcome whose mask is no mask": (
        "out",
        b'{"v":1,"id":"g","cmd":"get","result":"done","time":5,"absent":[["10001",3,5,"xyz"]]}',
    ),
    "a heartbeat with a number of 10,000 digits under an unknown key": (
        "stat",
        STATUS[:-1] + b',"more":' + LONG_NUMBER + b"}",
    ),
    "a heartbeat with NaN under an unknown key": ("stat", STATUS[:-1] + b',"more":NaN}'),
}


def play_utility(bench: UtilityBench, case: str) -> Seen:
    bench.tell("cw1/r001/u/batch", batch_of(block(slot=1), events=[(1, _EVENT)]).pack())
    leaf, payload = AT_UTILITY[case]
    sender = "r077" if case.endswith("not registered") else "r001"
    return bench.play(f"cw1/{sender}/u/{leaf}", payload)


@contextmanager
def gateway_bench(folder: Path) -> Iterator[GatewayBench]:
    bench = GatewayBench(folder)
    try:
        yield bench
    finally:
        bench.close()


@contextmanager
def utility_bench(folder: Path) -> Iterator[UtilityBench]:
    bench = UtilityBench(folder)
    try:
        yield bench
    finally:
        bench.close()
