import json

import pytest

from commonwatt.model.effects import Publish, Write
from commonwatt.model.records import EventRecord, RecordType
from commonwatt.model.time.now import Now, Trust
from commonwatt.protocol.batches import BatchAck, BatchRefusal, unpack_batch_ack
from commonwatt.protocol.controller_commands import ControllerOutcome
from commonwatt.protocol.dead_letters import LocalReason
from commonwatt.protocol.device_states import ForeignDevice
from commonwatt.protocol.heartbeats import Heartbeat
from harness.surroundings.sent import batch, blocks
from utility.outbox.changes import Append, CloseCommand, KeepDeadLetter, OpenCommand, SawGateway, Step
from utility.readings.core import MAX_JUNK_A_DAY, Core
from utility.readings.events import CommandsOpen, FromGateway
from utility.registry.snapshot import MeterEntry, RegistrySnapshot

NOW = 1_800_000_000
AGE = 1800
TOPIC = "cw1/r001/u/batch"


@pytest.fixture
def core() -> Core:
    types = frozenset({RecordType.THROUGH})
    meters = {
        10001: MeterEntry(no=1, microgrid="r001", record_types=types),
        20001: MeterEntry(no=2, microgrid="r002", record_types=types),
    }
    return Core(99, RegistrySnapshot(controllers={"r001": 1, "r002": 2}, meters=meters), AGE)


def at(seconds: int, trust: Trust = Trust.NONE) -> Now:
    return Now(seconds, trust)


def ack_of(step: Step) -> BatchAck:
    publishes = [effect for effect in step.effects if isinstance(effect, Publish)]
    assert len(publishes) == 1
    assert publishes[0].qos == 1
    return unpack_batch_ack(publishes[0].payload)


def writes_of(step: Step) -> list[object]:
    return [effect.change for effect in step.effects if isinstance(effect, Write)]


def test_batch_is_written_then_acknowledged(core: Core) -> None:
    event = EventRecord(previous_state=0, new_state=1, record_id=1, meter_id=10001, time=NOW)
    sent = batch(blocks({0: 5, 59: 7}), events=[(1, event)])
    step = core.handle(FromGateway(TOPIC, sent.pack()), at(NOW))

    assert [type(effect) for effect in step.effects] == [Write, Publish]
    (change,) = writes_of(step)
    assert isinstance(change, Append)
    assert (change.sender, change.owner, change.received) == ("r001", "r001", NOW)
    assert change.payloads == sent.payloads
    ack = ack_of(step)
    assert (ack.status, ack.store, ack.sequence) == (BatchRefusal.NONE, 7, 3)
    assert (ack.blocks, ack.events, ack.dead_letters, ack.utility_store) == (1, 1, 0, 99)


def test_batch_of_another_controllers_microgrid_keeps_sender_and_owner(core: Core) -> None:  # req: P7
    step = core.handle(FromGateway("cw1/r002/u/batch", batch(blocks({0: 5})).pack()), at(NOW))
    (change,) = writes_of(step)
    assert isinstance(change, Append)
    assert step.result == "not_assigned", "so that nobody speaks for others unseen"
    assert (change.sender, change.owner, len(change.blocks)) == ("r002", "r001", 0)
    assert step.effects[1].topic == "cw1/r002/d/ack"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("owner", "meter", "kind", "reason", "says"),
    [
        ("r009", 10001, 3, "unknown_owner", "microgrid 'r009'"),
        ("r001", 10009, 3, "unknown_meter", "meter 10009"),
        ("r001", 10001, 1, "other_type", "meter 10001 of r001 is not registered with records of type generation"),
        ("r001", 10001, 99, "other_type", "type 99"),
    ],
)
def test_a_refused_batch_says_which_meter_its_data_waits_for(
    core: Core, owner: str, meter: int, kind: int, reason: str, says: str
) -> None:
    step = core.handle(FromGateway(TOPIC, batch(blocks({0: 5}, meter=meter, kind=kind), owner=owner).pack()), at(NOW))
    assert (writes_of(step), ack_of(step).status) == ([], BatchRefusal.NOT_REGISTERED)
    refused = step.refused
    assert refused is not None
    assert (refused.controller, refused.time, refused.status) == ("r001", NOW, BatchRefusal.NOT_REGISTERED)
    assert (refused.reason, says in refused.text) == (reason, True), refused.text


@pytest.mark.parametrize("ahead", [0, 10 * 86_400])
def test_slots_not_yet_made_are_never_taken_for_absent(core: Core, ahead: int) -> None:
    young = (NOW - AGE) // 900
    outcome = ControllerOutcome.model_validate(
        {
            "id": "g1",
            "cmd": "get",
            "result": "done",
            "time": NOW,
            "absent": [["10001", 3, young - 1, "1"], ["10001", 3, young, "1"], ["10001", 3, young + 900, "1"]],
        }
    )
    (change,) = writes_of(core.handle(FromGateway("cw1/r001/u/out", outcome.pack()), at(NOW + ahead)))
    assert isinstance(change, CloseCommand)
    assert change.absent == ((10001, 3, young - 1, 1),)


def test_event_of_unknown_meter_is_refused(core: Core) -> None:
    event = EventRecord(previous_state=0, new_state=1, record_id=1, meter_id=555, time=NOW)
    assert (
        ack_of(core.handle(FromGateway(TOPIC, batch(events=[(1, event)]).pack()), at(NOW))).status
        is BatchRefusal.NOT_REGISTERED
    )


def test_unknown_controller_is_told_without_anything_kept(core: Core) -> None:  # req: P8
    step = core.handle(FromGateway("cw1/r077/u/batch", batch().pack()), at(NOW))
    assert (step.result, writes_of(step)) == ("unknown_sender", [])
    assert ack_of(step).status is BatchRefusal.NOT_REGISTERED
    assert core.handle(FromGateway("cw1/r077/u/stat", b"{}"), at(NOW)).effects == ()


def test_damaged_payload_is_refused_and_its_batch_kept_as_letter(core: Core) -> None:
    step = core.handle(FromGateway(TOPIC, batch(blocks({0: 5}), payloads=[b"\0" * 12]).pack()), at(NOW))
    (change,) = writes_of(step)
    assert isinstance(change, KeepDeadLetter)
    assert change.dead_letter.reason == LocalReason.BAD_BATCH
    ack = ack_of(step)
    assert (ack.status, ack.blocks, ack.sequence) == (BatchRefusal.BAD_PAYLOAD, 0, 3)
    assert step.refused is not None
    assert (step.refused.reason, "meter 10001" in step.refused.text) == ("bad_payload", True)


def test_batch_damaged_on_the_way_is_refused_by_its_head(core: Core) -> None:
    data = bytearray(batch().pack())
    data[-1] ^= 1
    ack = ack_of(core.handle(FromGateway(TOPIC, bytes(data)), at(NOW)))
    assert (ack.status, ack.store, ack.sequence) == (BatchRefusal.CHECKSUM, 7, 3)


def test_junk_is_kept_to_a_kilobyte_and_a_number_a_day(core: Core) -> None:
    kept = 0
    for number in range(MAX_JUNK_A_DAY + 5):
        changes = writes_of(core.handle(FromGateway(TOPIC, b"junk%d" % number + b"x" * 5000), at(NOW)))
        kept += len(changes)
        assert all(isinstance(c, KeepDeadLetter) and len(c.dead_letter.content) == 1024 for c in changes)
    assert kept == MAX_JUNK_A_DAY
    assert len(writes_of(core.handle(FromGateway("cw1/r002/u/batch", b"junk"), at(NOW)))) == 1
    assert len(writes_of(core.handle(FromGateway(TOPIC, b"junk"), at(NOW + 86_400)))) == 1


def test_heartbeat_is_kept_with_the_minima_its_own_meters_declared(core: Core) -> None:
    heartbeat = Heartbeat(
        time=NOW,
        store=7,
        backlog_parts=4,
        backlog_events=0,
        backlog_letters=0,
        aggregation="none",
        minima={10001: (75, NOW - 60), 20001: (1, NOW), 555: (1, NOW)},
    )
    step = core.handle(FromGateway("cw1/r001/u/stat", heartbeat.pack()), at(NOW))
    kept = SawGateway(controller="r001", time=NOW, heartbeat=heartbeat, minima=((10001, 75, NOW - 60),))
    assert writes_of(step) == [kept]
    undated = heartbeat.model_copy(update={"minima": {10001: (60, 0)}})
    step = core.handle(FromGateway("cw1/r001/u/stat", undated.pack()), at(NOW))
    kept = SawGateway(controller="r001", time=NOW, heartbeat=undated, minima=((10001, 60, NOW),))
    assert writes_of(step) == [kept], "the gateway did not know the time: it was reported by now"


def test_a_heartbeat_that_says_no_devices_has_those_of_the_one_before(core: Core) -> None:
    said = Heartbeat(time=NOW, store=7, backlog_parts=4, backlog_events=0, backlog_letters=0, aggregation="none")
    known = {10001: ForeignDevice(name="shed", preset="mine")}
    told = []
    for devices in (None, known, None, {}, None):
        step = core.handle(FromGateway("cw1/r001/u/stat", said.model_copy(update={"devices": devices}).pack()), at(NOW))
        (seen,) = [effect.change for effect in step.effects if isinstance(effect, Write)]
        assert isinstance(seen, SawGateway)
        told.append(seen.heartbeat.devices)
    assert told == [None, known, known, {}, {}]


def test_heartbeat_with_a_meter_of_thousands_of_digits_becomes_a_dead_letter(core: Core) -> None:
    heartbeat = Heartbeat(time=NOW, store=7, backlog_parts=4, backlog_events=0, backlog_letters=0, aggregation="none")
    named = json.loads(heartbeat.pack()) | {"minima": {"9" * 5000: (75, NOW)}}
    step = core.handle(FromGateway("cw1/r001/u/stat", json.dumps(named).encode()), at(NOW))
    assert step.result == "malformed"
    assert [type(change) for change in writes_of(step)] == [KeepDeadLetter]


@pytest.mark.parametrize("payload", [b"[]", b"{", b'"x"', b"\xff", b"[" * 3000, json.dumps({"x": "y" * 5000}).encode()])
def test_heartbeat_that_is_no_small_object_becomes_a_letter(core: Core, payload: bytes) -> None:
    step = core.handle(FromGateway("cw1/r001/u/stat", payload), at(NOW))
    assert step.result == "malformed"
    assert [type(change) for change in writes_of(step)] == [KeepDeadLetter]


def test_outcome_closes_command_and_brings_absent_slots_of_its_own_meters(core: Core) -> None:
    outcome = ControllerOutcome.model_validate(
        {
            "id": "g1",
            "cmd": "get",
            "result": "done",
            "time": NOW,
            "absent": [["10001", 3, 5, "ff"], ["20001", 3, 5, "ff"]],
        }
    )
    step = core.handle(FromGateway("cw1/r001/u/out", outcome.pack()), at(NOW))
    (change,) = writes_of(step)
    assert isinstance(change, CloseCommand)
    assert (change.id, change.controller, change.state, change.absent) == ("g1", "r001", "done", ((10001, 3, 5, 255),))
    assert core.handle(FromGateway("cw1/r001/u/out", b"{}"), at(NOW)).result == "malformed"


def test_command_is_sent_every_ten_seconds_until_it_is_gone_or_too_old(core: Core) -> None:
    command = OpenCommand(id="c1", controller="r001", message="{}", until=NOW + 25)
    sent = {
        second: [e for e in core.handle(CommandsOpen((command,)), at(NOW + second)).effects if isinstance(e, Publish)]
        for second in range(0, 24, 2)
    }
    assert [second for second, messages in sent.items() if messages] == [0, 10, 20]
    assert sent[0] == [Publish("cw1/r001/d/cmd", b"{}")]
    assert core.handle(CommandsOpen(()), at(NOW + 24)).effects == ()
    assert core.handle(CommandsOpen((command,)), at(NOW + 25)).effects == (
        Write(CloseCommand(id="c1", controller="r001", state="expired")),
    )


def test_command_is_sent_again_though_the_clock_was_set_back(core: Core) -> None:
    command = OpenCommand(id="c1", controller="r001", message="{}", until=NOW + 25)
    assert (
        len(core.handle(CommandsOpen((command,)), at(NOW)).effects)
        == len(core.handle(CommandsOpen((command,)), at(NOW - 3600)).effects)
        == 1
    )
    assert core.handle(CommandsOpen((command,)), at(NOW - 3595)).effects == ()


def test_time_is_told_with_its_trust(core: Core) -> None:
    packed = batch(blocks({0: 5})).pack()
    for payload in (packed, packed[:-1]):
        for trust in (Trust.NONE, Trust.NETWORK):
            assert (
                ack_of(Step("", core.handle(FromGateway(TOPIC, payload), at(NOW, trust)).effects[-1:])).trust is trust
            )
