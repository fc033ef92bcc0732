"""Feed every core with mutated and random messages, and good ones in between: nothing fails, nothing grows.

``python -m harness.fuzz.messages --cases 500000 --seed 7`` runs one seed for long; ``make soak`` does. Seed and number
alone determine a message, so a failure can be repeated.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.event import listen

from commonwatt.model.blocks import concatenate
from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.model.records import EventRecord, Log
from commonwatt.model.units import QUARTER_S, SLOT_S
from commonwatt.protocol.batches import Batch
from commonwatt.protocol.dead_letters import MAX_DEAD_LETTER_BYTES, DeadLetter
from commonwatt.protocol.meter_messages import LiveLevel, Put
from gateway.collect import DEAD_LETTERS_A_DAY
from gateway.store.changes import AddDeadLetters, Change
from harness.fuzz import bad_input
from harness.fuzz.bad_input import GatewayBench, MeterBench, UtilityBench, batch_of, block
from harness.surroundings.gateway import START, readings
from harness.surroundings.messages import ack_of
from utility.readings.core import MAX_JUNK_A_DAY

GOOD_EVERY = 50  # number of bad messages before each good one, which must be accepted
MAX_EFFECTS = 400  # most effects of one message; a put may split records at every quarter of a week

NUMBERS = (
    0,
    1,
    2,
    3,
    4,
    15,
    60,
    255,
    256,
    900,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**53,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
JSON_PIECES = (
    b"null", b"true", b"-1", b"0", b"1e999", b"NaN", b"9" * 400, b"9" * 5000, b'"\\ud800"', b'"' + b"x" * 300 + b'"',
    b"[]", b"{}", b"[[[[[[]]]]]]", b"[" * 300, b'{"a":' * 300, b'""', b'"18446744073709551615"', b"1.5",
    b'{"sharing":null}', b"\xff\xfe", b"\x00", b'"done"', b"[1,0]", b"[4294967295,65535]",
)  # fmt: skip


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Return ``data`` with one or more mutations, often with a right checksum."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(7):
            case 0 if changed:
                changed[at % len(changed)] ^= 1 << rng.randrange(8)
            case 1:
                del changed[at : at + rng.randrange(1, 12)]
            case 2:
                changed[at:at] = rng.randbytes(rng.randrange(1, 12))
            case 3:
                width = rng.choice((1, 2, 4, 8))
                changed[at : at + width] = (rng.choice(NUMBERS) % (1 << 8 * width)).to_bytes(width, "big")
            case 4:
                del changed[at:]
            case 5:
                changed += changed[: rng.randrange(64)]
            case _:
                changed[at : at + 1] = b"\xff" * rng.randrange(1, 40)
    if rng.random() < 0.6:
        # Otherwise the checksum would stop nearly every mutation.
        return bad_input.with_crc(bytes(changed[:-4]))
    return bytes(changed)


def mutated_json(rng: random.Random, data: bytes) -> bytes:
    """Return JSON with some of its values replaced, keys doubled, or text damaged."""
    if rng.random() < 0.2:
        return mutated(rng, data)
    fields = [(key, json.dumps(value).encode()) for key, value in json.loads(data).items()]
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(fields))
        match rng.randrange(4):
            case 0:
                del fields[at]
            case 1:
                fields.append((fields[at][0], rng.choice(JSON_PIECES)))
            case 2:
                fields[at] = (fields[at][0], str(rng.choice(NUMBERS) - rng.choice((0, 0, 1))).encode())
            case _:
                fields[at] = (fields[at][0], rng.choice(JSON_PIECES))
        if not fields:
            return b"{}"
    return b"{" + b",".join(json.dumps(key).encode() + b":" + value for key, value in fields) + b"}"


def noise(rng: random.Random) -> bytes:
    """Return random bytes."""
    return rng.choice(
        (b"", rng.randbytes(rng.randrange(1, 200)), bytes(rng.randrange(2000)), b"[" * rng.randrange(5000))
    )


@dataclass
class Source:
    """An input for messages."""

    name: str  # its name in a failure
    seeds: list[bytes]  # good messages, to be mutated
    take: Callable[[bytes], None]  # passes a message to the core; raises if an invariant is violated
    text: bool = False  # whether its messages are JSON

    def case(self, rng: random.Random) -> bytes:
        """Return the next message."""
        if rng.random() < 0.1:
            return noise(rng)
        return (mutated_json if self.text else mutated)(rng, rng.choice(self.seeds))


@dataclass
class Tally:
    """The counts of a run, by source."""

    cases: dict[str, int] = field(default_factory=dict)
    good: int = 0
    dead_letters: dict[str, int] = field(default_factory=dict)


class FuzzError(AssertionError):
    """A violated condition; the text names the message."""


class Fuzz:
    """All inputs of one gateway, one meter and one utility, on real stores."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.tally = Tally()
        self._seed = seed
        self.gateway = GatewayBench(folder)
        self.utility = UtilityBench(folder)
        self.meter = MeterBench()
        # No power cuts here; syncs would take nearly all of the time.
        self.gateway.world.store._db.execute("PRAGMA synchronous = OFF")
        listen(self.utility.database.reads, "connect", lambda c, _: c.execute("PRAGMA synchronous = OFF"))
        self.sources = [*self._of_gateway(), *self._of_meter(), *self._of_utility()]

    def close(self) -> None:
        self.gateway.close()
        self.utility.close()

    def run(self, first: int, cases: int) -> None:
        """Play ``cases`` messages from number ``first`` on, inputs in turn, and good ones in between."""
        for number in range(first, first + cases):
            source = self.sources[number % len(self.sources)]
            payload = source.case(random.Random(f"{self._seed}/{number}"))
            try:
                source.take(payload)
            except Exception as error:
                raise FuzzError(
                    f"seed {self._seed}, case {number}, {source.name}: {payload[:200]!r}: {error!r}"
                ) from error
            self.tally.cases[source.name] = self.tally.cases.get(source.name, 0) + 1
            if number % GOOD_EVERY == 0:
                self._good()

    def _good(self) -> None:
        self.gateway.good()
        self.utility.good()
        self.tally.good += 2

    def check_bounds(self) -> None:
        """Check that dead letters and the cores' memory stay within their bounds."""
        core = self.gateway.world.core
        days = self.gateway.world.now // 86_400 - START // 86_400 + 1
        kept = [
            dead_letter
            for dead_letter in self.gateway.world.store.dead_letters()
            if dead_letter.log == 0 or dead_letter.log >= 16
        ]
        # Meter 1, the head-end, and all unregistered senders together.
        assert len(kept) <= 3 * DEAD_LETTERS_A_DAY * days, len(kept)
        assert all(len(dead_letter.content) <= MAX_DEAD_LETTER_BYTES for dead_letter in kept)
        # Dead letters with a meter were relayed and stored whole.
        junk = [dead_letter for dead_letter in self.utility.kept() if dead_letter.log >= 16 and not dead_letter.meter]
        assert len(junk) <= MAX_JUNK_A_DAY, len(junk)
        registered = len(self.gateway.world.meters)
        sizes = {
            "junk": (len(core.collector._junk), registered + 2),
            "rejected": (len(core.collector.counts.rejected), 20),
            "unreadable": (len(core.collector.counts.unreadable), 20),
            "puts": (len(core.collector.counts.puts), 10),
            "gone": (len(core.collector.gone), 2 * registered),
            "views": (len(core.manager.meters), registered),
            "desired": (len(core.manager._desired), 4 * registered),
            "sent": (len(core.manager._sent), 4 * registered),
            "outcomes": (len(core.manager.counts.outcomes), 10),
            "notes": (len(core.manager.notes), 20),
            "in flight": (len(core.relay.in_flight), 4),
            "wanted": (len(core.relay.wanted), 50_000),
            "unknown": (len(core.relay._unknown), registered),
            "orders": (len(core.utility_commands._outcomes), 100),
            "periods": (len(core.utility_commands.periods), 5),
            "meter's held states": (len(self.meter.meter.desired_states.held), 4),
            "meter's tally": (len(self.meter.tally), 40),
            "utility's junk": (len(self.utility.ingest._core._junk), 3),
            "silent since": (len(self.utility.ingest.silent_since), 2),
            "refused": (len(self.utility.ingest.refused), 2),
        }
        grown = {name: size for name, (size, most) in sizes.items() if size > most}
        assert not grown, grown
        self.tally.dead_letters = {"gateway": len(kept), "utility": len(junk)}

    # The doors

    def _of_gateway(self) -> Iterator[Source]:
        event = EventRecord(previous_state=1, new_state=17, record_id=1, meter_id=1, time=START)
        events = Put(log=Log.EVENT, generation=1, first_id=1, last_id=1, records=(event.pack(),)).pack()
        yield Source("put of records", [bad_input.PUT.pack(), _long_put()], self._from_meter("rec"))
        yield Source("put of events", [events], self._from_meter("ev"))
        yield Source("level", [LiveLevel(state=1, time=START, level=5).pack()], self._from_meter("lvl"))
        held = {"sharing": {"value": "on", "epoch": [1, 0], "seq": 4, "until": START + 900, "weight": 2}}
        ids = {"generation": 1, "first": "3", "next": "5"}
        said = bad_input.outcome_with(
            cmd="initialize",
            held=held,
            epoch=[1, 0],
            minimum_percent=50,
            capacity_mwh=9_000_000,
            history=ids,
            events=ids,
        )
        yield Source("outcome", [said], self._from_meter("out"), text=True)
        ack = bad_input._batch_ack("a batch acknowledgement of another store", batch_of(block()))
        yield Source("batch acknowledgement", [ack], self._from_utility("ack"))
        desired_states = [
            bad_input.order(blocks=[["1", 3, START // QUARTER_S, "f"]]),
            bad_input.order(cmd="aggregate", at="meters", mode="lossy", for_s=600),
            bad_input.order(cmd="deaggregate", at="gateway"),
            bad_input.order(cmd="schedule", periods={"relay_s": 900, "levels_s": 60}),
        ]
        yield Source("order", desired_states, self._from_utility("cmd"), text=True)
        yield Source("order's topic", [b"cw1/r001/d/cmd", b"cw1/r001/1/u/rec"], self._topics)

    def _from_meter(self, leaf: str) -> Callable[[bytes], None]:
        def take(payload: bytes) -> None:
            # Mostly a registered meter, sometimes an unregistered one.
            meter = 1 if payload[:1] != b"\x00" else 900 + len(payload)
            self._do(self.gateway.world.core.from_meter(f"cw1/r001/{meter}/u/{leaf}", payload, self.gateway.world.now))

        return take

    def _from_utility(self, leaf: str) -> Callable[[bytes], None]:
        def take(payload: bytes) -> None:
            self._do(self.gateway.world.core.from_utility(f"cw1/r001/d/{leaf}", payload, self.gateway.world.now))

        return take

    def _topics(self, payload: bytes) -> None:
        topic = payload.decode("utf-8", "replace")
        world = self.gateway.world
        self._do(world.core.from_meter(topic, payload, world.now))
        self._do(world.core.from_utility(topic, payload, world.now))
        self._take_at_utility(topic, payload)

    def _do(self, effects: list[Effect[Change]]) -> None:
        assert len(effects) <= MAX_EFFECTS, f"{len(effects)} effects of one message"
        dead_letters = [
            x
            for e in effects
            if isinstance(e, Write) and isinstance(e.change, AddDeadLetters)
            for x in e.change.dead_letters
        ]
        assert all(len(dead_letter.content) <= MAX_DEAD_LETTER_BYTES for dead_letter in dead_letters)
        self.gateway.world.do(effects)
        self.gateway.world.sent.clear()

    def _of_meter(self) -> Iterator[Source]:
        commands = [
            bad_input.command("share_power_on", seq=9, until=START + 900, weight=3),
            bad_input.command("get", what="records", from_id="1", to_id="5"),
            bad_input.command("aggregate", seq=9, mode="lossy", for_s=60),
            bad_input.command("isolate", seq=9, state="on", for_s=60),
            bad_input.command("put", time=START, trust=2),
            bad_input.command("stop"),
        ]
        yield Source("command", commands, self._to_meter("cmd"), text=True)
        yield Source("acknowledgement", [ack_of(self.meter.put_in_flight(), START).pack()], self._to_meter("ack"))

    def _to_meter(self, leaf: str) -> Callable[[bytes], None]:
        def take(payload: bytes) -> None:
            effects = self.meter.meter.receive(leaf, payload, START + 20)
            assert len(effects) <= 20
            assert all(len(e.payload) < 50_000 for e in effects if isinstance(e, Publish))

        return take

    def _of_utility(self) -> Iterator[Source]:
        yield Source("batch", [batch_of(block()).pack(), _full_batch().pack()], self._at_utility("batch"))
        yield Source("heartbeat", [_heartbeat()], self._at_utility("stat"), text=True)
        outcome = b'{"v":1,"id":"g","cmd":"get","result":"done","time":5,"sent":1,"absent":[["10001",3,5,"f"]]}'
        yield Source("gateway's outcome", [outcome], self._at_utility("out"), text=True)

    def _at_utility(self, leaf: str) -> Callable[[bytes], None]:
        return lambda payload: self._take_at_utility(f"cw1/r001/u/{leaf}", payload)

    def _take_at_utility(self, topic: str, payload: bytes) -> None:
        failed = _failures(self.utility)
        self.utility.tell(topic, payload)
        assert _failures(self.utility) == failed, "the core or the store failed on it"
        assert len(self.utility.sent) <= 1


def _failures(bench: UtilityBench) -> float:
    registry = bench.metrics.registry
    names = [("messages_total", {"result": "failed"}), ("store_errors_total", {})]
    return sum(registry.get_sample_value(f"commonwatt_utility_{name}", labels) or 0 for name, labels in names)


def _long_put() -> bytes:
    records = [*readings(1, 1, 5), *readings(1, 6, 5, kind=2), *readings(1, 11, 5, kind=1, start=START - SLOT_S * 58)]
    return Put(
        log=Log.HISTORY, generation=1, first_id=1, last_id=15, records=tuple(record.pack() for record in records)
    ).pack()


def _full_batch() -> Batch:
    event = EventRecord(previous_state=0, new_state=1, record_id=1, meter_id=10001, time=START)
    dead_letter = DeadLetter(meter=10001, log=1, reason=15, generation=1, record_id=9, time=START, content=bytes(36))
    some = concatenate([block(slot=5, value=7), block(slot=6, value=8, meter=10003)])
    return batch_of(some, events=[(1, event)], dead_letters=[dead_letter])


def _heartbeat() -> bytes:
    more = {"minima": {"10001": [50, START]}, "periods": {"relay_s": 60}}
    return json.dumps(json.loads(bad_input.STATUS) | more).encode()


def run(folder: Path, *, cases: int, seed: int, tell: Callable[[str], None] = lambda _: None) -> Tally:
    """Play ``cases`` messages.

    Raises:
        FuzzError: A message violated a condition.
    """
    fuzz = Fuzz(folder, seed)
    step = 10_000
    try:
        for first in range(0, cases, step):
            fuzz.run(first, min(step, cases - first))
            fuzz.check_bounds()
            tell(f"{first + min(step, cases - first)} cases: {fuzz.tally.dead_letters}")
    finally:
        fuzz.close()
    return fuzz.tally


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            tally = run(Path(folder), cases=arguments.cases, seed=arguments.seed, tell=print)
        except AssertionError as failure:
            sys.exit(str(failure))
    print(f"seed {arguments.seed}: {tally}")


if __name__ == "__main__":
    main()
