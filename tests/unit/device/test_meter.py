"""What a meter does with slots, acknowledgements, commands and losses of power, with time as a literal."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from commonwatt.device.changes import DesiredStates, LogRow, MeterState, NewRecords, StoredMeter
from commonwatt.device.commands import Commanded
from commonwatt.device.meter import Effects, MeterCore, MeterLimits
from commonwatt.device.records import Tally
from commonwatt.model.effects import Publish, Write
from commonwatt.model.records import EventRecord, Log, RecordType, Rejection, State
from commonwatt.model.time import Trust
from commonwatt.protocol import topics
from commonwatt.protocol.commands import HeldState, Kind, Outcome
from commonwatt.protocol.meter_messages import Put, Refusal, unpack_level, unpack_put
from commonwatt.town.town import Battery, Direction, Function
from commonwatt.town.town import Meter as Description
from harness.surroundings.messages import SOLAR, ack_of, house_meter

T = 1_790_000_100  # start of a quarter-hour, and so of a minute, a group of ten and a slot

UP = State.INITIALIZED
BATTERY = Battery(capacity=28_800_000, minimum_percent=50)
METER = 20_000_060  # sends at second 20 of the minute


def description(*, battery: bool = True, push: bool = True, meter: int = METER) -> Description:
    types = SOLAR if battery else (RecordType.THROUGH,)
    return house_meter(meter, battery=BATTERY if battery else None, record_types=types, push=push)


class Bench:
    """A meter whose effects are done at once: what it wrote is kept as its store would, what it published is read."""

    def __init__(
        self, *, battery: bool = True, push: bool = True, resolution: int = 100, log_records: int = 10_000
    ) -> None:
        self.description = description(battery=battery, push=push)
        self.limits = MeterLimits(resolution=resolution, log_records=log_records)
        self.tally: Tally = Counter()
        new = StoredMeter(state=MeterState(meter=METER, generation=T), desired_states=DesiredStates(METER, (0, 0), {}))
        self.meter = MeterCore(self.description, self.limits, new, self.tally)
        self.sent: list[Publish] = []
        self.events: list[EventRecord] = []
        self.do(self.meter.boot(T, power_lost=True))

    def do(self, effects: Effects) -> list[Publish]:
        """Perform effects; return what was published."""
        published = [effect for effect in effects if isinstance(effect, Publish)]
        changes = [effect.change for effect in effects if isinstance(effect, Write)]
        for change in changes:
            if isinstance(change, NewRecords) and change.log is Log.EVENT:
                put = Put(log=Log.EVENT, generation=1, first_id=1, last_id=1, records=(change.rows[0].data,))
                self.events += put.events()
        self.sent += published
        return published

    def slots(self, count: int, readings: dict[RecordType, int] | None = None) -> None:
        """Measure the next slots."""
        for _ in range(count):
            end = max(self.meter.state.last_slot, T) + 15
            given = readings or {RecordType.GENERATION: end % 1000, RecordType.STORED: end, RecordType.THROUGH: 500}
            self.do(self.meter.measure(end, given))

    def command(self, cmd: str, now: float = T, **fields: Any) -> Outcome:
        """Send a command; return its outcome."""
        published = self.do(self.meter.receive(topics.COMMANDS, command(cmd, **fields), now))
        outcomes = [Outcome.model_validate_json(p.payload) for p in published if p.topic.endswith(topics.OUTCOMES)]
        assert len(outcomes) == 1
        return outcomes[0]

    def get(self, what: str, now: float = T, **fields: Any) -> list[Put]:
        """Send a get; return the puts that come."""
        return puts(self.do(self.meter.receive(topics.COMMANDS, command("get", what=what, **fields), now)))

    def ack(self, put: Put, now: float = T, **changes: Any) -> list[Put]:
        """Acknowledge a put; return the puts that follow."""
        return puts(self.do(self.meter.receive(topics.ACKS, replace(ack_of(put, T), **changes).pack(), now)))

    def tick(self, now: float) -> list[Put]:
        return puts(self.do(self.meter.tick(now)))


def command(cmd: str, **fields: Any) -> bytes:
    return json.dumps({"v": 1, "id": "c1", "cmd": cmd, "issuer": "r001", "epoch": [1, 0], **fields}).encode()


def puts(published: Sequence[Publish]) -> list[Put]:
    assert all(p.qos for p in published if p.topic.endswith(topics.OUTCOMES))
    return [unpack_put(p.payload) for p in published if p.topic.rpartition("/")[2] in (topics.RECORDS, topics.EVENTS)]


def history(found: Sequence[Put]) -> Put:
    (put,) = [put for put in found if put.log is Log.HISTORY]
    return put


# Measuring (M1).


def shares_until(bench: Bench, end: float) -> None:
    """Check that the meter shares to the second before ``end``, and no longer."""
    bench.tick(end - 1)
    assert bench.meter.bits & State.SHARING
    bench.tick(end)
    assert not bench.meter.bits & State.SHARING


def test_every_slot_makes_a_record_of_each_type_with_ids_without_holes() -> None:
    bench = Bench()
    bench.slots(2)
    put = history(bench.get("records"))
    records = put.history()
    assert (put.first_id, put.last_id, put.generation) == (1, 6, T)
    assert [r.record_id for r in records] == [1, 2, 3, 4, 5, 6]
    assert [r.record_type for r in records] == [1, 2, 3, 1, 2, 3]
    assert {(r.start, r.end) for r in records} == {(T, T + 15), (T + 15, T + 30)}
    assert {(r.account, r.lossy, r.meter_id) for r in records} == {(7, 0, METER)}


def test_a_flow_below_the_resolution_is_carried_into_the_next_slots() -> None:
    bench = Bench(battery=False)
    bench.slots(4, {RecordType.THROUGH: 130})
    readings = [r.reading for r in history(bench.get("records")).history()]
    assert readings == [100, 100, 100, 200]
    assert bench.meter.state.remainders == {RecordType.THROUGH: 20}


def test_a_level_is_rounded_down_and_carries_nothing() -> None:
    bench = Bench()
    bench.slots(2, {RecordType.GENERATION: 0, RecordType.STORED: 199, RecordType.THROUGH: 0})
    records = history(bench.get("records")).history()
    assert [r.reading for r in records if r.record_type == RecordType.STORED] == [100, 100]


def test_a_slot_is_never_measured_twice() -> None:
    bench = Bench(battery=False)
    bench.slots(2)
    assert bench.meter.measure(T + 30, {RecordType.THROUGH: 1}) == []
    assert bench.meter.state.made == 2


def test_a_full_log_leaves_an_explicit_counted_gap() -> None:
    bench = Bench(battery=False, log_records=1000)
    for n in range(1003):
        bench.do(bench.meter.measure(T + 15 * (n + 1), {RecordType.THROUGH: 100 * n}))
    assert (bench.meter.state.made, bench.meter.state.gaps) == (1000, 3)
    assert len(bench.meter.history.rows) == 1000
    assert bench.meter.history.next_id == 1001


def test_a_meter_short_of_storage_consolidates_what_it_holds_by_itself() -> None:
    bench = Bench(battery=False, log_records=1000)
    for n in range(901):
        bench.do(bench.meter.measure(T + 15 * (n + 1), {RecordType.THROUGH: 500}))
    assert bench.meter.state.made == 901
    assert len(bench.meter.history.rows) == 16  # fifteen whole quarters, and the newest record
    assert bench.tally["relief", "consolidated"] == 1


# Delivery (M4, M6).


def test_a_push_meter_sends_both_logs_in_its_turn_of_the_minute() -> None:
    bench = Bench()
    bench.slots(1)
    assert bench.meter.wake_at == T + 20
    assert [put.log for put in bench.tick(T + 20)] == [Log.HISTORY, Log.EVENT]
    assert bench.sent[0].topic == topics.meter_up("r001", METER, topics.RECORDS)


def test_a_pull_meter_waits_for_get() -> None:
    bench = Bench(push=False)
    bench.slots(8)
    assert bench.meter.wake_at is None
    assert len(bench.get("records")) == 1


def test_a_batch_without_acknowledgement_is_sent_again_as_it_was() -> None:
    bench = Bench(battery=False)
    bench.slots(1)
    bench.ack(bench.get("events")[0])
    first = history(bench.tick(T + 20))
    times = []
    for _ in range(5):
        bench.slots(1)
        wake = bench.meter.wake_at
        while wake is not None and not (again := bench.tick(wake)):
            wake = bench.meter.wake_at
        assert wake is not None
        times.append(wake)
        assert again == [first]
    assert times == [T + 35, T + 65, T + 125, T + 185, T + 245]


def test_records_are_deleted_only_when_exactly_they_are_acknowledged() -> None:
    bench = Bench(battery=False)
    bench.slots(3)
    put = history(bench.get("records"))
    for wrong in (
        {"last_id": 2},
        {"first_id": 2},
        {"generation": put.generation - 1},
        {"accepted": ((3, 2),)},
        {"accepted": ((1, 3),)},
        {"status": Refusal.BUSY},
        {"log": Log.EVENT},
    ):
        bench.ack(put, **wrong)
        assert len(bench.meter.history.rows) == 3
    bench.do(bench.meter.receive(topics.ACKS, b"junk", T))
    assert len(bench.meter.history.rows) == 3
    bench.ack(put, accepted=((3, 2),), rejected=((3, Rejection.WRONG_ACCOUNT),))
    assert bench.meter.history.rows == []
    assert bench.meter.state.acknowledged == 3
    assert bench.tally["ack", "mismatch"] == 2


def test_a_meter_with_much_to_tell_goes_on_at_each_acknowledgement() -> None:
    bench = Bench(battery=False)
    bench.slots(1130)
    put = history(bench.tick(T + 20))
    assert (put.first_id, put.last_id) == (1, 1000)
    put = history(bench.ack(put))
    assert (put.first_id, put.last_id) == (1001, 1130)
    assert bench.ack(put) == []
    bench.slots(59)
    put = history(bench.tick(T + 80))
    bench.slots(59)
    assert bench.ack(put) == []


@pytest.mark.parametrize("status", [Refusal.MALFORMED, Refusal.VERSION, Refusal.TOO_LARGE])
def test_a_batch_refused_as_it_is_is_sent_in_halves(status: Refusal) -> None:
    bench = Bench(battery=False)
    bench.slots(7)
    put = history(bench.get("records"))
    assert bench.ack(put, status=status, accepted=()) == []
    assert history(bench.tick(T + 15)).last_id == 3


@pytest.mark.parametrize("status", [Refusal.CHECKSUM, Refusal.BUSY, Refusal.NOT_REGISTERED])
def test_a_batch_refused_for_now_is_sent_again_as_it_was(status: Refusal) -> None:
    bench = Bench(battery=False)
    bench.slots(7)
    put = history(bench.get("records"))
    assert bench.ack(put, status=status, accepted=()) == []
    assert history(bench.tick(T + 15)) == put


def test_get_sends_everything_held_then_one_batch_after_the_other() -> None:
    bench = Bench(battery=False, push=False)
    bench.slots(1010)
    published = bench.do(bench.meter.receive(topics.COMMANDS, command("get", what="records"), T))
    outcome = Outcome.model_validate_json(published[-1].payload)
    assert (outcome.result, outcome.sent) == ("partial", {"3": 1000})
    (put,) = bench.ack(puts(published)[0])
    assert put.last_id == 1010
    bench.slots(100)
    assert bench.ack(put) == []


def test_get_up_to_an_id_sends_no_more() -> None:
    bench = Bench(battery=False, push=False)
    bench.slots(10)
    put = history(bench.get("records", to_id="4"))
    assert put.last_id == 4
    assert bench.ack(put) == []
    assert bench.get("records", to_id="4") == []


def test_get_from_an_id_beyond_the_last_sends_nothing() -> None:
    bench = Bench(battery=False, push=False)
    bench.slots(2)
    assert bench.get("records", from_id="1000") == []
    put = history(bench.get("records", from_id="1"))
    assert put.last_id == 2
    assert history(bench.get("records", from_id="1000")) == put, "what is in flight comes again"
    assert bench.ack(put) == []


def test_get_of_an_empty_log_says_so() -> None:
    bench = Bench(battery=False)
    outcome = bench.command("get", what="records")
    assert (outcome.result, outcome.sent) == ("done", {})


# Aggregation (M7).


def test_lossless_makes_one_of_equal_readings_and_still_covers_every_id() -> None:
    bench = Bench()
    assert bench.command("aggregate", mode="lossless", seq=1).bits == UP | State.LOSSLESS
    bench.slots(3, {RecordType.GENERATION: 0, RecordType.STORED: 1000, RecordType.THROUGH: 500})
    put = history(bench.get("records"))
    assert (put.first_id, put.last_id) == (1, 9)
    assert [(r.record_id, r.end - r.start) for r in put.history()] == [(1, 45), (2, 45), (3, 45)]
    bench.ack(put)
    assert bench.meter.state.acknowledged == 9


def test_aggregation_that_is_off_stays_in_the_outcome_with_the_pair_that_set_it() -> None:
    bench = Bench()
    assert bench.command("get", what="state").held == {}
    bench.command("aggregate", mode="lossy", seq=1)
    held = bench.command("deaggregate", seq=2).held
    assert held == {Kind.AGGREGATION: HeldState(value="none", epoch=(1, 0), seq=2)}
    bench.command("aggregate", mode="lossless", seq=3, for_s=60)
    held = bench.command("get", now=T + 60, what="state").held
    assert held == {Kind.AGGREGATION: HeldState(value="none", epoch=(1, 0), seq=3)}, "its end has come by itself"


def test_lossy_averages_whole_groups_and_holds_back_the_one_being_measured() -> None:
    bench = Bench(battery=False)
    bench.command("aggregate", mode="lossy", seq=1)
    for n in range(14):
        bench.do(bench.meter.measure(T + 15 * (n + 1), {RecordType.THROUGH: 100 * n}))
    put = history(bench.get("records", now=T + 210))
    (record,) = put.history()
    assert (put.first_id, put.last_id) == (1, 10)
    assert (record.lossy, record.reading, record.start, record.end) == (1, 450, T, T + 150)
    bench.ack(put)
    assert bench.get("records", now=T + 215) == []
    bench.command("deaggregate", seq=2)
    assert history(bench.get("records", now=T + 216)).last_id == 14


def test_lossy_sends_a_group_with_a_gap_as_it_is() -> None:
    bench = Bench(battery=False)
    bench.command("aggregate", mode="lossy", seq=1)
    for n in (0, 1, 2, 4, 5, 6, 7, 8, 9, 10):
        bench.do(bench.meter.measure(T + 15 * (n + 1), {RecordType.THROUGH: 100 * n}))
    put = history(bench.get("records", now=T + 170))
    assert [r.lossy for r in put.history()] == [0] * 9


def test_what_was_held_back_is_sent_when_nothing_more_comes() -> None:
    bench = Bench(battery=False)
    bench.command("aggregate", mode="lossy", seq=1)
    bench.slots(3)
    assert bench.get("records", now=T + 60) == []
    assert history(bench.get("records", now=T + 210)).last_id == 3


def test_what_was_held_back_is_sent_when_the_clock_was_set_back() -> None:
    bench = Bench(battery=False)
    bench.command("aggregate", mode="lossy", seq=1)
    bench.slots(3)
    assert history(bench.get("records", now=T - 86_400)).last_id == 3


def test_aggregation_never_touches_a_batch_in_flight() -> None:
    bench = Bench(battery=False)
    bench.slots(4)
    put = history(bench.get("records"))
    bench.command("aggregate", mode="lossless", seq=1)
    bench.slots(4)
    assert history(bench.get("records")) == put
    assert history(bench.tick(T + 80)) == put


# Commands (M5).


def test_initialize_tells_the_switch_and_the_threshold() -> None:
    outcome = Bench(push=False).command("initialize")
    assert (outcome.result, outcome.push, outcome.minimum_percent) == ("done", False, 50)
    assert outcome.capacity_mwh == 28_800_000
    assert outcome.bits == UP
    assert outcome.history is not None
    assert (outcome.history.generation, outcome.history.first, outcome.history.next) == (T, 1, 1)
    assert Bench(battery=False).command("initialize").minimum_percent is None


def test_stop_shuts_down_until_initialize() -> None:
    bench = Bench()
    assert bench.command("stop", now=T + 5).bits == 0
    bench.slots(2)
    assert bench.meter.state.made == 0
    assert bench.command("share_power_on", seq=1, for_s=60).result == "refused"
    assert bench.command("initialize", now=T + 40).bits == UP
    assert [(e.previous_state, e.new_state, e.time) for e in bench.events] == [
        (0, UP, T),
        (UP, 0, T + 5),
        (0, UP, T + 40),
    ]


def test_get_levels_is_answered_by_a_level_alone() -> None:
    bench = Bench()
    bench.slots(1)
    (published,) = bench.do(bench.meter.receive(topics.COMMANDS, command("get", what="levels"), T + 16))
    assert published.topic == topics.meter_up("r001", METER, topics.LEVELS)
    assert published.qos == 0
    level = unpack_level(published.payload)
    assert (level.level, level.time, level.state) == ((T + 15) // 100 * 100, T + 15, UP)


def test_get_levels_without_a_battery_is_refused() -> None:
    bench = Bench(battery=False)
    bench.slots(1)
    assert bench.command("get", what="levels").reason == "no battery here"


def test_get_state_changes_nothing() -> None:
    bench = Bench()
    assert bench.command("get", what="state").bits == UP
    assert bench.command("get").result == "refused"


def test_sharing_ends_by_itself_at_its_end() -> None:
    bench = Bench()
    outcome = bench.command("share_power_on", seq=5, until=T + 120, weight=3)
    assert outcome.bits == UP | State.SHARING
    assert bench.meter.commanded(T) == Commanded(sharing=True, weight=3)
    assert bench.meter.commanded(T + 120) == Commanded()
    bench.tick(T + 120)
    assert bench.command("get", now=T + 121, what="state").bits == UP
    assert bench.events[-1].time == T + 120
    assert bench.command("share_power_on", now=T + 122, seq=5, until=T + 300).result == "repeated"


@pytest.mark.parametrize(
    ("cmd", "fields"),
    [
        ("share_power_on", {}),
        ("reduce_power_on", {}),
        ("isolate", {"state": "on"}),
        ("isolate", {}),
    ],
)
def test_a_state_without_an_end_is_refused_since_its_controller_may_be_lost(cmd: str, fields: dict[str, Any]) -> None:
    outcome = Bench().command(cmd, seq=1, **fields)
    assert outcome.result == "refused"
    assert outcome.reason == f"{cmd} needs its end, until or for_s"
    assert outcome.held == {}


@pytest.mark.parametrize(
    ("cmd", "fields"),
    [
        ("isolate", {"state": "off"}),
        ("share_power_off", {}),
        ("reduce_power_off", {}),
        ("deaggregate", {}),
        ("aggregate", {"mode": "lossy"}),
    ],
)
def test_what_goes_back_to_the_default_and_aggregation_need_no_end(cmd: str, fields: dict[str, Any]) -> None:
    assert Bench().command(cmd, seq=1, **fields).result == "done"


def test_share_power_on_without_a_battery_is_refused() -> None:
    assert Bench(battery=False).command("share_power_on", seq=1, for_s=60).reason == "no battery here"


def test_isolate_and_reduce_reach_the_place_behind_the_meter() -> None:
    bench = Bench()
    assert bench.command("isolate", seq=1, state="on", for_s=900).bits == UP | State.ISOLATED | State.OFF_GRID
    bench.command("reduce_power_on", seq=1, for_s=900)
    assert bench.meter.commanded(T) == Commanded(isolated=True, reducing=True)
    bench.command("isolate", seq=2, state="off")
    assert bench.command("reduce_power_off", seq=2).bits == UP


def boundary() -> Bench:
    """The meter that measures a microgrid's import."""
    bench = Bench(battery=False)
    bench.description = replace(bench.description, function=Function.BOUNDARY, direction=Direction.INCOMING)
    bench.meter = MeterCore(bench.description, bench.limits, stored(bench), bench.tally)
    return bench


def test_only_the_meter_of_the_import_takes_an_import_limit() -> None:
    outcome = Bench().command("limit_import", seq=1, import_limit_w=0, for_s=900)
    assert (outcome.result, outcome.reason) == ("refused", "import_limit can't be commanded here")
    assert boundary().command("limit_import", seq=1, import_limit_w=0, for_s=900).result == "done"


def test_an_import_limit_is_durable_before_the_answer_replaced_and_ends_by_itself() -> None:  # req: A2
    bench = boundary()
    assert bench.command("limit_import", seq=1, import_limit_w=0).reason == "limit_import needs its end, until or for_s"
    limit = {"import_limit_w": 0, "until": T + 900}
    effects = bench.meter.receive(topics.COMMANDS, command("limit_import", seq=1, **limit), T)
    assert isinstance(effects[0], Write)
    assert isinstance(effects[0].change, DesiredStates)
    assert isinstance(effects[-1], Publish)
    bench.do(effects)
    assert bench.meter.commanded(T).import_limit_w == 0, "0 is a limit"
    assert bench.command("limit_import", seq=1, **limit).result == "repeated"
    bench.meter = MeterCore(bench.description, bench.limits, stored(bench), bench.tally)
    bench.do(bench.meter.boot(T + 40, power_lost=False))
    assert bench.meter.commanded(T + 40).import_limit_w == 0, "a restart changes nothing"
    outcome = bench.command("limit_import", now=T + 60, seq=2, import_limit_w=5000, until=T + 960)
    held = outcome.held[Kind.IMPORT_LIMIT]
    assert (outcome.result, outcome.bits, held.value, held.seq, held.until) == ("done", UP, "5000", 2, T + 960)
    assert bench.meter.commanded(T + 959) == Commanded(import_limit_w=5000)
    assert bench.meter.commanded(T + 960) == Commanded()
    bench.tick(T + 960)
    assert bench.meter.desired_states.value(Kind.IMPORT_LIMIT) == "none"


def test_an_import_limit_is_ended_by_a_command_without_one() -> None:
    bench = boundary()
    bench.command("limit_import", seq=1, import_limit_w=7, for_s=900)
    assert bench.command("limit_import", seq=2).held[Kind.IMPORT_LIMIT].value == "none"
    assert bench.meter.commanded(T) == Commanded()


def test_a_repeated_command_is_executed_once_and_answered_again() -> None:
    bench = Bench()
    bench.command("share_power_on", seq=1, until=T + 900)
    outcome = bench.command("share_power_on", seq=1, until=T + 900)
    assert (outcome.result, outcome.bits) == ("repeated", UP | State.SHARING)
    assert len(bench.events) == 2


def test_a_command_overtaken_by_a_later_one_is_superseded() -> None:
    bench = Bench()
    bench.command("share_power_off", seq=2)
    assert bench.command("share_power_on", seq=1, until=T + 900).result == "superseded"
    assert bench.command("reduce_power_on", seq=1, until=T + 900).result == "done"


def test_a_deposed_manager_is_fenced_off_in_every_kind_of_command() -> None:
    bench = Bench()
    bench.command("share_power_on", epoch=[2, 1], seq=1, until=T + 900)
    for fields in ({"cmd": "share_power_off", "seq": 9}, {"cmd": "reduce_power_off", "seq": 9}, {"cmd": "stop"}):
        assert bench.command(epoch=[2, 0], **fields).result == "fenced"
    assert bench.command("get", epoch=[1, 9], what="state").result == "fenced"
    outcome = bench.command("share_power_off", epoch=[3, 0], seq=0)
    assert (outcome.result, outcome.epoch) == ("done", (3, 0))


def test_a_command_after_its_end_is_not_executed_and_leaves_no_trace() -> None:
    bench = Bench()
    outcome = bench.command("share_power_on", seq=4, epoch=[9, 0], until=T)
    assert (outcome.result, outcome.epoch, outcome.held) == ("expired", (0, 0), {})
    assert bench.command("stop", until=T).result == "expired"
    bench.command("share_power_on", seq=1, until=T + 900)
    outcome = bench.command("share_power_off", seq=7, epoch=[9, 0], until=T)
    assert (outcome.result, outcome.epoch, outcome.held[Kind.SHARING].seq) == ("expired", (1, 0), 1)
    assert bench.command("share_power_off", seq=2).result == "done", "its own manager is not fenced off"


def test_put_gives_the_meter_the_time_which_may_be_later_by_now_but_not_earlier() -> None:
    bench = Bench()
    assert bench.command("put", now=T, time=T + 9, trust=3).time == T + 9
    assert (bench.meter.state.offset_s, bench.meter.state.trust) == (9, 3)
    assert bench.command("put", now=T + 60, time=T + 9, trust=3).time == T + 69
    assert bench.command("put").result == "refused"


@pytest.mark.parametrize(
    ("told_s", "after_s", "offset_s"),
    [(3600, 5, 3595), (0, 5, 0), (5, 5, 0), (-60, 5, 0), (-3600, 5, -3600), (-3600, 3605, -3600)],
)
def test_an_answer_tells_the_time_of_some_moment_since_it_was_asked_for(
    told_s: int, after_s: int, offset_s: int
) -> None:
    bench = Bench()
    bench.slots(2)
    (put,) = bench.get("records")
    bench.ack(put, T + after_s, time=T + told_s, trust=Trust.NETWORK)
    assert bench.meter.state.offset_s == offset_s


def test_time_of_less_trust_is_not_taken_for_a_day_and_of_none_never() -> None:
    bench = Bench()
    for now, trust, told_s, offset_s in (
        (T, 2, 9, 9),
        (T, 1, 300, 9),
        (T, 3, 30, 30),
        (T + 100, 2, 60, 30),
        (T + 86_500, 1, 60, 30),
        (T + 86_500, 1, 300, 300),
        (T + 200_000, 0, 600, 300),
    ):
        bench.command("put", now=now, time=now + told_s, trust=trust)
        assert bench.meter.state.offset_s == offset_s, (now, trust)


def test_a_meter_told_another_time_keeps_its_timers_and_ends_its_states_by_the_right_time() -> None:
    bench = Bench()
    bench.slots(2)
    (put,) = bench.get("records")
    retry_at = bench.meter.wake_at
    bench.command("put", now=T, time=T + 3600, trust=3)
    assert bench.meter.wake_at == retry_at
    assert bench.command("share_power_on", now=T, seq=1, until=T + 3500).result == "expired"
    assert bench.command("share_power_on", now=T, seq=1, until=T + 3605).result == "done"
    assert bench.meter.wake_at == T + 5
    bench.tick(T + 5)
    assert not bench.meter.bits & State.SHARING
    assert bench.events[-1].time == T + 3605
    assert put.counts()


def test_a_state_told_for_a_while_does_not_last_longer_when_the_clock_is_set_back() -> None:
    bench = Bench()
    bench.slots(2)
    (put,) = bench.get("records")
    bench.command("share_power_on", now=T, seq=1, for_s=300)
    bench.ack(put, T + 5, time=T - 3600, trust=Trust.NETWORK)
    assert bench.meter.state.offset_s == -3600
    shares_until(bench, T + 300)


def test_a_state_does_not_last_longer_when_a_restart_forgets_what_time_the_meter_was_told() -> None:
    bench = Bench()
    bench.command("put", now=T, time=T + 3600, trust=3)
    bench.command("share_power_on", now=T, seq=1, for_s=300)
    bench.do(bench.meter.boot(T + 10, power_lost=True))
    shares_until(bench, T + 300)


def test_a_meter_whose_clock_starts_before_what_it_recorded_ends_what_has_an_end() -> None:
    bench = Bench()
    bench.slots(2)
    bench.command("share_power_on", now=T + 30, seq=1, for_s=300)
    bench.do(bench.meter.boot(600, power_lost=True))
    assert not bench.meter.bits & State.SHARING


def test_a_put_that_waits_tells_the_meter_the_time_and_is_sent_again_as_it_was() -> None:
    bench = Bench()
    bench.slots(2)
    (put,) = bench.get("records")
    assert bench.ack(put, T + 5, status=Refusal.EARLY, accepted=(), time=T - 3600, trust=Trust.NETWORK) == []
    assert bench.meter.state.offset_s == -3600
    assert bench.get("records", now=T + 60) == [put]


@pytest.mark.parametrize(("ahead_s", "at"), [(86_400, T + 30), (3600, T + 3600)])
def test_after_a_clock_far_ahead_events_have_the_right_time_at_once(ahead_s: int, at: int) -> None:
    bench = Bench()
    bench.do(bench.meter.boot(T + ahead_s, power_lost=True))
    bench.command("reduce_power_on", now=T + ahead_s, seq=1, for_s=60)
    bench.do(bench.meter.boot(T + 10, power_lost=False))
    bench.command("put", now=T + 20, time=T + 20, trust=3)
    bench.command("share_power_on", now=T + 30, seq=1, for_s=60)
    assert bench.events[-1].time == at, "an event that waits at the meter comes before later ones"


def test_the_highest_sequence_number_is_refused_and_ends_no_meter() -> None:
    bench = Bench()
    assert bench.command("share_power_on", seq=2**53, for_s=60).result == "refused"
    assert bench.command("share_power_on", seq=2**53 - 1, for_s=60).result == "done"


def test_a_duration_beyond_the_last_second_of_a_record_ends_with_it() -> None:
    bench = Bench()
    late = 2**32 - 1000
    bench.do(bench.meter.boot(late, power_lost=True))
    assert bench.command("share_power_on", now=late, seq=1, for_s=2000).held["sharing"].until == 2**32 - 1  # type: ignore[index]


def test_junk_commands_are_counted_and_answered_only_by_name() -> None:
    bench = Bench()
    for junk in (b"", b"\xff", b"[]", b'{"id": 5}', b"[" * 9000, b"x" * 20_000, b'{"id": "\\ud800"}'):
        assert bench.do(bench.meter.receive(topics.COMMANDS, junk, T)) == []
    outcome = bench.command("explode")
    assert (outcome.id, outcome.cmd, outcome.result) == ("c1", "explode", "unsupported")
    assert bench.command("share_power_on", for_s=60).reason == "share_power_on needs seq"
    assert bench.command("share_power_on", seq=1, for_s=60, until=T + 60).result == "refused"
    assert bench.tally["command", "malformed"] == 9


# Loss of power (M9).


def stored(bench: Bench) -> StoredMeter:
    """Return what the meter last wrote, as its store has it."""
    meter = bench.meter
    rows = {
        held.log: [
            LogRow(held._id(n), held._took.get(held._id(n), held._id(n)), data) for n, data in enumerate(held.rows)
        ]
        for held in (meter.history, meter.events)
    }
    return StoredMeter(
        state=meter.state,
        desired_states=meter.desired_states.kept(METER),
        history=rows[Log.HISTORY],
        events=rows[Log.EVENT],
    )


def test_after_a_loss_of_power_its_events_say_when_it_was_off() -> None:
    bench = Bench()
    bench.slots(4)
    bench.meter = MeterCore(bench.description, bench.limits, stored(bench), bench.tally)
    bench.do(bench.meter.boot(T + 72, power_lost=True))
    assert [(e.previous_state, e.new_state, e.time) for e in bench.events] == [
        (0, UP, T),
        (UP, 0, T + 60),
        (0, UP, T + 72),
    ]
    assert [e.record_id for e in bench.events] == [1, 2, 3]


def put_times(bench: Bench, seconds: int) -> list[int]:
    """Return when the meter puts readings, seconds from ``T``; each put is acknowledged a second later."""
    times = []
    for second in range(0, seconds, 15):
        bench.slots(1)
        wake, end = bench.meter.wake_at, T + second + 15
        while wake is not None and wake <= end:
            for put in bench.tick(wake):
                times += [int(wake - T)] if put.log is Log.HISTORY else []
                assert bench.ack(put, wake + 1) == []
            wake = bench.meter.wake_at
    return times


@pytest.mark.parametrize("put_s", [60, 120, 300, 900])
def test_a_meter_puts_in_its_turn_of_the_commanded_period_and_nothing_is_left_over(put_s: int) -> None:
    # req: C9, M4
    bench = Bench()
    outcome = bench.command("put_every", seq=1, for_s=86_400, put_s=put_s)
    assert (outcome.result, outcome.put_s) == ("done", put_s)
    times = put_times(bench, 3600)
    # What waits since the start comes within a minute.
    assert times[0] <= 60
    assert all((T + time - METER) % put_s == 0 for time in times[1:])
    assert times[1:] == list(range(times[1], 3600, put_s))
    assert bench.meter.state.acknowledged == 3 * -(-times[-1] // 15), "the last put had all slots until then"


def test_a_get_that_is_done_is_answered_by_the_put_alone_if_that_is_enough() -> None:
    bench = Bench()
    bench.slots(1)
    (put,) = puts(bench.do(bench.meter.receive(topics.COMMANDS, command("get", what="records", quiet=True), T)))
    assert put.last_id == 3
    bench.ack(put)
    assert bench.do(bench.meter.receive(topics.COMMANDS, command("get", what="records", quiet=True), T)) == []
    bench.command("get", what="state", epoch=[3, 0])
    old = command("get", what="records", quiet=True)
    (answer,) = bench.do(bench.meter.receive(topics.COMMANDS, old, T))
    assert Outcome.model_validate_json(answer.payload).result == "fenced", "what is not done is said"


def test_a_period_of_puts_outlives_a_restart_and_ends_by_itself() -> None:
    bench = Bench()
    bench.command("put_every", seq=1, for_s=86_400, put_s=900)
    bench.do(bench.meter.boot(T + 40, power_lost=True))
    assert bench.command("get", what="state").put_s == 900
    bench.tick(T + 86_400)
    assert bench.command("get", T + 86_400, what="state").put_s == 60


def test_a_period_of_puts_needs_an_end_and_whole_minutes_up_to_900_s() -> None:
    bench = Bench()
    assert bench.command("put_every", seq=1, put_s=120).reason == "put_every needs its end, until or for_s"
    for wrong in (30, 90, 960):
        assert bench.command("put_every", seq=1, for_s=60, put_s=wrong).result == "refused"
    assert bench.command("put_every", seq=1).result == "done", "back to a minute, without an end"


def test_an_event_does_not_wait_for_the_end_of_a_long_period() -> None:
    bench = Bench()
    bench.command("put_every", seq=1, for_s=86_400, put_s=900)
    put_times(bench, 120)
    bench.command("reduce_power_on", T + 120, seq=1, for_s=600)
    wake = bench.meter.wake_at
    assert wake is not None
    assert wake <= T + 180
    assert [put.log for put in bench.tick(wake)] == [Log.EVENT]


def test_a_restart_that_missed_nothing_leaves_no_events() -> None:
    bench = Bench()
    bench.slots(4)
    bench.meter = MeterCore(bench.description, bench.limits, stored(bench), bench.tally)
    bench.do(bench.meter.boot(T + 62, power_lost=False))
    assert len(bench.events) == 1


def test_after_a_loss_of_power_states_that_have_not_ended_hold_again() -> None:
    bench = Bench()
    bench.command("share_power_on", seq=3, until=T + 900)
    bench.command("reduce_power_on", seq=3, until=T + 30)
    bench.meter = MeterCore(bench.description, bench.limits, stored(bench), bench.tally)
    bench.do(bench.meter.boot(T + 40, power_lost=True))
    assert bench.events[-1].new_state == UP | State.SHARING
    assert bench.command("share_power_off", now=T + 41, seq=3).result == "repeated"
    assert bench.command("reduce_power_off", now=T + 41, seq=2).result == "superseded"


def test_a_stopped_meter_stays_stopped_over_a_loss_of_power() -> None:
    bench = Bench()
    bench.command("stop")
    bench.meter = MeterCore(bench.description, bench.limits, stored(bench), bench.tally)
    bench.do(bench.meter.boot(T + 40, power_lost=True))
    bench.slots(1)
    assert bench.meter.state.made == 0
    assert len(bench.events) == 2


def test_a_batch_in_flight_is_the_same_after_a_loss_of_power() -> None:
    bench = Bench(battery=False)
    bench.slots(5)
    put = history(bench.tick(T + 20))
    bench.slots(3)
    bench.meter = MeterCore(bench.description, bench.limits, stored(bench), bench.tally)
    bench.do(bench.meter.boot(T + 70, power_lost=True))
    assert history(bench.tick(T + 80)) == put
