"""Whatever is measured, sent, lost, repeated, aggregated and crashed: nothing that was recorded is ever lost (I1, I3).

A real core on a real store; the network loses, delays and repeats; the gateway keeps every put it gets.
"""

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from commonwatt.device.changes import DesiredStates, MeterChange, MeterState, NewRecords, StoredMeter
from commonwatt.device.meter import Effects, MeterCore, MeterLimits
from commonwatt.device.store import open_store
from commonwatt.model.blocks import Quality, from_records
from commonwatt.model.effects import Publish, Write
from commonwatt.model.records import HistoryRecord, Log, RecordType, unpack_history
from commonwatt.model.units import GROUP_SLOTS, QUARTER_S, SLOT_S
from commonwatt.protocol import topics
from commonwatt.protocol.meter_messages import Put, Refusal, unpack_put
from commonwatt.town.town import Battery
from harness.surroundings.messages import ack_of, house_meter
from meter_sim.store import TRUTH

EXAMPLES = int(os.environ.get("METER_EXAMPLES", "60"))  # histories of a meter; ``make soak`` has more

T = 1_790_000_100
METER = 10_001
DESCRIPTION = house_meter(METER, battery=Battery(capacity=1000, minimum_percent=50))
FATES = st.sampled_from(["done"] * 6 + ["crash before commit", "crash after commit"])
AGES = st.integers(0, 3)
READINGS = st.sampled_from([0, 0, 0, 5, 5, 12])


class MeterMachine(RuleBasedStateMachine):
    """A meter, its store, the network between it and a gateway that keeps whatever reaches it."""

    def __init__(self) -> None:
        super().__init__()
        self.store = open_store(Path(":memory:"), TRUTH)
        self.now = float(T)
        self.slot_end = T
        self.seq = 0
        self.truth: list[HistoryRecord] = []
        self.wire: list[bytes] = []
        self.received: list[Put] = []
        self.flight: dict[Log, bytes | None] = {Log.HISTORY: None, Log.EVENT: None}

    def teardown(self) -> None:
        self.store.close()

    @initialize(limit=st.sampled_from([1, 7, 40, 1000]), log_records=st.sampled_from([90, 400, 100_000]))
    def start(self, limit: int, log_records: int) -> None:
        self.limit, self.log_records = limit, log_records
        self.build()

    def build(self) -> None:
        """Make the meter from its store alone, as after a loss of power."""
        new = StoredMeter(state=MeterState(meter=METER, generation=9), desired_states=DesiredStates(METER, (0, 0), {}))
        limits = MeterLimits(resolution=1, log_records=self.log_records)
        self.meter = MeterCore(DESCRIPTION, limits, self.store.load(METER) or new, Counter())
        for delivery in self.meter._deliveries.values():
            delivery._limit = self.limit
        self.perform(self.meter.boot(self.now, power_lost=True), "done")

    def perform(self, effects: Effects, fate: str) -> None:
        changes: list[MeterChange] = [effect.change for effect in effects if isinstance(effect, Write)]
        if fate != "crash before commit" and changes:
            self.store.commit(changes)
            for change in changes:
                if isinstance(change, NewRecords) and change.log is Log.HISTORY:
                    self.truth += [unpack_history(row.data) for row in change.rows]
        if fate == "done":
            for effect in effects:
                if isinstance(effect, Publish) and effect.topic.rpartition("/")[2] in (topics.RECORDS, topics.EVENTS):
                    put = unpack_put(effect.payload)
                    before = self.flight[put.log]
                    assert before is None or before == effect.payload, "a frozen batch changed"
                    self.flight[put.log] = effect.payload
                    self.check_coverage(put)
                    self.wire.append(effect.payload)
        else:
            self.build()

    def check_coverage(self, put: Put) -> None:
        """Check that a put's records stand for exactly the readings whose ids it covers."""
        if put.log is Log.HISTORY:
            true = {(r.record_type, r.start) for r in self.truth if put.first_id <= r.record_id <= put.last_id}
            told = [(r.record_type, at) for r in put.history() for at in range(r.start, r.end, SLOT_S)]
            assert len(told) == len(true) == put.last_id - put.first_id + 1
            assert set(told) == true

    @rule(count=st.integers(1, 25), generation=READINGS, stored=READINGS, through=READINGS, fate=FATES)
    def measure(self, count: int, generation: int, stored: int, through: int, fate: str) -> None:
        readings = {
            RecordType.GENERATION: generation,
            RecordType.STORED: stored,
            RecordType.THROUGH: through,
        }
        for n in range(count):
            self.slot_end += SLOT_S
            self.now = max(self.now, float(self.slot_end))
            self.perform(self.meter.measure(self.slot_end, readings), fate if n == count - 1 else "done")

    @rule(slots=st.integers(1, 70))
    def go_unmeasured(self, slots: int) -> None:
        self.slot_end += slots * SLOT_S
        self.now = max(self.now, float(self.slot_end))

    @rule(fate=FATES)
    def wait_for_the_next_timer(self, fate: str) -> None:
        wake = self.meter.wake_at
        assert wake is not None
        self.now = max(self.now, wake)
        self.perform(self.meter.tick(self.now), fate)

    @rule(what=st.sampled_from(["records", "events"]), part=st.none() | st.floats(0, 1), fate=FATES)
    def get(self, what: str, part: float | None, fate: str) -> None:
        fields: dict[str, Any] = {"what": what}
        if part is not None:
            fields["to_id"] = str(int(part * self.meter.history.next_id))
        self.command("get", fate, **fields)

    @rule(mode=st.sampled_from(["lossless", "lossy", None]), for_s=st.none() | st.sampled_from([20, 400]), fate=FATES)
    def aggregate(self, mode: str | None, for_s: int | None, fate: str) -> None:
        self.seq += 1
        if mode is None:
            self.command("deaggregate", fate, seq=self.seq)
        else:
            end = {} if for_s is None else {"for_s": for_s}
            self.command("aggregate", fate, mode=mode, seq=self.seq, **end)

    @rule(put_s=st.sampled_from([60, 300, 900]), for_s=st.sampled_from([20, 4000]), fate=FATES)
    def put_every(self, put_s: int, for_s: int, fate: str) -> None:
        self.seq += 1
        self.command("put_every", fate, seq=self.seq, put_s=put_s, for_s=for_s)

    def command(self, cmd: str, fate: str, **fields: Any) -> None:
        content = {"v": 1, "id": "c", "cmd": cmd, "issuer": "r001", "epoch": [1, 0], **fields}
        self.perform(self.meter.receive(topics.COMMANDS, json.dumps(content).encode(), self.now), fate)

    def on_the_wire(self, age: int, *, keep: bool) -> Put | None:
        """Take one of the puts under way, 0 the newest; ``None`` if there is none and the meter has none to send."""
        if not self.wire:
            self.command("get", "done", what="records")
        if not self.wire:
            return None
        at = len(self.wire) - 1 - age % len(self.wire)
        return unpack_put(self.wire[at] if keep else self.wire.pop(at))

    @rule(age=AGES, keep=st.booleans(), fate=FATES)
    def a_put_arrives_and_is_acknowledged(self, age: int, keep: bool, fate: str) -> None:
        put = self.on_the_wire(age, keep=keep)
        if put is not None:
            self.received.append(put)
            self.acknowledge(put, fate)

    @rule(age=AGES, arrives=st.booleans())
    def a_put_or_its_acknowledgement_is_lost(self, age: int, arrives: bool) -> None:
        put = self.on_the_wire(age, keep=False)
        if put is not None and arrives:
            self.received.append(put)

    @rule(age=AGES, status=st.sampled_from([Refusal.TOO_LARGE, Refusal.BUSY]), fate=FATES)
    def a_put_is_refused(self, age: int, status: Refusal, fate: str) -> None:
        put = self.on_the_wire(age, keep=True)
        if put is not None:
            self.acknowledge(put, fate, status=status, accepted=())

    @rule(age=AGES, first=st.integers(-1, 1), last=st.integers(-1, 1), more=st.integers(-1, 1))
    def a_wrong_acknowledgement_comes(self, age: int, first: int, last: int, more: int) -> None:
        put = self.on_the_wire(age, keep=True)
        if put is None:
            return
        kinds = list(put.counts().items())
        kinds[0] = (kinds[0][0], kinds[0][1] + more)
        first_id, last_id = max(0, put.first_id + first), put.last_id + last
        batch = (self.meter.history if put.log is Log.HISTORY else self.meter.events).batch()
        # Wrong for this put, it may be right for the next: then a gateway that has not got that one would not say it.
        right = [(p.first_id, p.last_id, dict(p.counts())) for p in (put, batch) if p is not None]
        if (first_id, last_id, dict(kinds)) not in right:
            self.acknowledge(put, "done", first_id=first_id, last_id=last_id, accepted=tuple(kinds))

    def acknowledge(self, put: Put, fate: str, **changes: Any) -> None:
        ack = replace(ack_of(put, int(self.now)), **changes)
        held = self.meter.history if put.log is Log.HISTORY else self.meter.events
        batch = held.batch()
        # From here on another batch may be frozen, if this one was in flight and is confirmed or must be cut.
        if batch is not None and (ack.confirms(batch) or ack.status is Refusal.TOO_LARGE):
            self.flight[put.log] = None
        self.perform(self.meter.receive(topics.ACKS, ack.pack(), self.now), fate)
        if fate == "crash before commit" and batch is not None:
            self.flight[put.log] = batch.pack()

    @rule()
    def lose_power(self) -> None:
        self.build()

    @invariant()
    def nothing_recorded_is_lost(self) -> None:
        if not self.truth:
            return
        delivered = [record for put in self.received if put.log is Log.HISTORY for record in put.history()]
        held = [unpack_history(data) for data in self.meter.history.rows]
        blocks = from_records(delivered + held)
        assert len(blocks.extras) == 0, "two values for one slot"
        found: dict[tuple[int, int], tuple[int, int]] = {}
        for row in range(len(blocks)):
            _, kind, quarter = blocks.key(row)
            for slot in range(60):
                at = quarter * QUARTER_S + slot * SLOT_S
                found[kind, at] = int(blocks.quality[row][slot]), int(blocks.values[row][slot])
        true = {(record.record_type, record.start): record.reading for record in self.truth}
        assert len(true) == len(self.truth)
        assert {key for key, (quality, _) in found.items() if quality} == set(true)
        for (kind, at), reading in true.items():
            quality, value = found[kind, at]
            if quality == Quality.AVERAGED:
                start = at - at % (SLOT_S * GROUP_SLOTS)
                total = sum(true[kind, start + SLOT_S * n] for n in range(GROUP_SLOTS))
                assert abs(GROUP_SLOTS * value - total) <= GROUP_SLOTS / 2
            else:
                assert value == reading

    @invariant()
    def every_id_is_held_by_one_row_or_was_delivered(self) -> None:
        if not hasattr(self, "meter"):
            return
        for log, held in ((Log.HISTORY, self.meter.history), (Log.EVENT, self.meter.events)):
            ids = [held._id(n) for n in range(len(held.rows))]
            assert ids == sorted(set(ids))
            reach = max((held._took.get(i, i) for i in ids), default=held.next_id - 1)
            assert reach == held.next_id - 1
            covered = 0
            for first, last in sorted((p.first_id, p.last_id) for p in self.received if p.log is log):
                if first <= covered + 1:
                    covered = max(covered, last)
            assert covered >= held.first_id - 1

    @invariant()
    def the_store_holds_what_the_meter_holds(self) -> None:
        stored = self.store.load(METER)
        if stored is None:
            return
        assert [row.data for row in stored.history] == self.meter.history.rows
        assert {r.first_id: r.last_id for r in stored.history if r.last_id > r.first_id} == self.meter.history._took
        assert [row.data for row in stored.events] == self.meter.events.rows
        assert stored.state.frozen_history == self.meter.history.frozen_last
        assert stored.state.made == len(self.truth)
        assert stored.desired_states.held == self.meter.desired_states.held
        waiting = sum((r.end - r.start) // SLOT_S for r in map(unpack_history, self.meter.history.rows))
        assert stored.state.acknowledged == stored.state.made - waiting


TestMeterMachine = MeterMachine.TestCase
TestMeterMachine.settings = settings(max_examples=EXAMPLES, stateful_step_count=50, deadline=None)
