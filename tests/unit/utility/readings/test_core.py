"""What the utility answers gateways: acknowledgements, commands, refills, a bounded rate when it lags."""

import json
from collections.abc import Callable
from itertools import pairwise

import pytest

from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.model.records import EventRecord, RecordType
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.batches import SLOW_S, BatchAck, BatchRefusal, unpack_batch_ack
from commonwatt.protocol.commands import ForeignDevice
from commonwatt.protocol.controller_commands import ControllerOutcome
from commonwatt.protocol.dead_letters import LocalReason
from commonwatt.protocol.heartbeats import Heartbeat
from harness.console import Browser, text_of
from harness.surroundings.messages import a_heartbeat, batch, blocks
from tests.unit.utility.conftest import NOW
from utility.access.people import Role
from utility.database.database import Database
from utility.outbox.changes import (
    Append,
    CloseCommand,
    CoreStep,
    Deposed,
    KeepDeadLetter,
    OpenCommand,
    SawGateway,
    UtilityChange,
)
from utility.readings.bounds import (
    BURST,
    GOOD_S,
    LATE_FOR_S,
    MAX_WAITING,
    MAX_WAITING_OF_ALL,
    PER_S,
    BatchPace,
    Overload,
)
from utility.readings.core import MAX_JUNK_A_DAY, CommandsOpen, Core, FromGateway
from utility.readings.sending import RESEND_S, Sending
from utility.readings.store.gateways import refills
from utility.readings.store.writer import Writer
from utility.registry.snapshot import MeterEntry, RegistrySnapshot

CORE_NOW = 1_800_000_000
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


def ack_of(step: CoreStep) -> BatchAck:
    publishes = [effect for effect in step.effects if isinstance(effect, Publish)]
    assert len(publishes) == 1
    assert publishes[0].qos == 1
    return unpack_batch_ack(publishes[0].payload)


def writes_of(step: CoreStep) -> list[object]:
    return [effect.change for effect in step.effects if isinstance(effect, Write)]


def test_batch_is_written_then_acknowledged(core: Core) -> None:
    event = EventRecord(previous_state=0, new_state=1, record_id=1, meter_id=10001, time=CORE_NOW)
    sent = batch(blocks({0: 5, 59: 7}), events=[(1, event)])
    step = core.handle(FromGateway(TOPIC, sent.pack()), at(CORE_NOW))

    assert [type(effect) for effect in step.effects] == [Write, Publish]
    (change,) = writes_of(step)
    assert isinstance(change, Append)
    assert (change.sender, change.owner, change.received) == ("r001", "r001", CORE_NOW)
    assert change.payloads == sent.payloads
    ack = ack_of(step)
    assert (ack.status, ack.store, ack.sequence) == (BatchRefusal.NONE, 7, 3)
    assert (ack.blocks, ack.events, ack.dead_letters, ack.utility_store) == (1, 1, 0, 99)


def test_batch_of_another_controllers_microgrid_keeps_sender_and_owner(core: Core) -> None:  # req: P7
    step = core.handle(FromGateway("cw1/r002/u/batch", batch(blocks({0: 5})).pack()), at(CORE_NOW))
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
    step = core.handle(
        FromGateway(TOPIC, batch(blocks({0: 5}, meter=meter, kind=kind), owner=owner).pack()), at(CORE_NOW)
    )
    assert (writes_of(step), ack_of(step).status) == ([], BatchRefusal.NOT_REGISTERED)
    refused = step.refused
    assert refused is not None
    assert (refused.controller, refused.time, refused.status) == ("r001", CORE_NOW, BatchRefusal.NOT_REGISTERED)
    assert (refused.reason, says in refused.text) == (reason, True), refused.text


@pytest.mark.parametrize("ahead", [0, 10 * 86_400])
def test_slots_not_yet_made_are_never_taken_for_absent(core: Core, ahead: int) -> None:
    young = (CORE_NOW - AGE) // 900
    outcome = ControllerOutcome.model_validate(
        {
            "id": "g1",
            "cmd": "get",
            "result": "done",
            "time": CORE_NOW,
            "absent": [["10001", 3, young - 1, "1"], ["10001", 3, young, "1"], ["10001", 3, young + 900, "1"]],
        }
    )
    (change,) = writes_of(core.handle(FromGateway("cw1/r001/u/out", outcome.pack()), at(CORE_NOW + ahead)))
    assert isinstance(change, CloseCommand)
    assert change.absent == ((10001, 3, young - 1, 1),)


def test_event_of_unknown_meter_is_refused(core: Core) -> None:
    event = EventRecord(previous_state=0, new_state=1, record_id=1, meter_id=555, time=CORE_NOW)
    assert (
        ack_of(core.handle(FromGateway(TOPIC, batch(events=[(1, event)]).pack()), at(CORE_NOW))).status
        is BatchRefusal.NOT_REGISTERED
    )


def test_unknown_controller_is_told_without_anything_kept(core: Core) -> None:  # req: P8
    step = core.handle(FromGateway("cw1/r077/u/batch", batch().pack()), at(CORE_NOW))
    assert (step.result, writes_of(step)) == ("unknown_sender", [])
    assert ack_of(step).status is BatchRefusal.NOT_REGISTERED
    assert core.handle(FromGateway("cw1/r077/u/stat", b"{}"), at(CORE_NOW)).effects == ()


def test_damaged_payload_is_refused_and_its_batch_kept_as_letter(core: Core) -> None:
    step = core.handle(FromGateway(TOPIC, batch(blocks({0: 5}), payloads=[b"\0" * 12]).pack()), at(CORE_NOW))
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
    ack = ack_of(core.handle(FromGateway(TOPIC, bytes(data)), at(CORE_NOW)))
    assert (ack.status, ack.store, ack.sequence) == (BatchRefusal.CHECKSUM, 7, 3)


def test_junk_is_kept_to_a_kilobyte_and_a_number_a_day(core: Core) -> None:
    kept = 0
    for number in range(MAX_JUNK_A_DAY + 5):
        changes = writes_of(core.handle(FromGateway(TOPIC, b"junk%d" % number + b"x" * 5000), at(CORE_NOW)))
        kept += len(changes)
        assert all(isinstance(c, KeepDeadLetter) and len(c.dead_letter.content) == 1024 for c in changes)
    assert kept == MAX_JUNK_A_DAY
    assert len(writes_of(core.handle(FromGateway("cw1/r002/u/batch", b"junk"), at(CORE_NOW)))) == 1
    assert len(writes_of(core.handle(FromGateway(TOPIC, b"junk"), at(CORE_NOW + 86_400)))) == 1


def test_heartbeat_is_kept_with_the_minima_its_own_meters_declared(core: Core) -> None:
    heartbeat = Heartbeat(
        time=CORE_NOW,
        store=7,
        backlog_parts=4,
        backlog_events=0,
        backlog_letters=0,
        aggregation="none",
        minima={10001: (75, CORE_NOW - 60), 20001: (1, CORE_NOW), 555: (1, CORE_NOW)},
    )
    step = core.handle(FromGateway("cw1/r001/u/stat", heartbeat.pack()), at(CORE_NOW))
    kept = SawGateway(controller="r001", time=CORE_NOW, heartbeat=heartbeat, minima=((10001, 75, CORE_NOW - 60),))
    assert writes_of(step) == [kept]
    undated = heartbeat.model_copy(update={"minima": {10001: (60, 0)}})
    step = core.handle(FromGateway("cw1/r001/u/stat", undated.pack()), at(CORE_NOW))
    kept = SawGateway(controller="r001", time=CORE_NOW, heartbeat=undated, minima=((10001, 60, CORE_NOW),))
    assert writes_of(step) == [kept], "the gateway did not know the time: it was reported by now"


def test_a_heartbeat_that_says_no_devices_has_those_of_the_one_before(core: Core) -> None:
    said = Heartbeat(time=CORE_NOW, store=7, backlog_parts=4, backlog_events=0, backlog_letters=0, aggregation="none")
    known = {10001: ForeignDevice(name="shed", preset="mine")}
    told = []
    for devices in (None, known, None, {}, None):
        step = core.handle(
            FromGateway("cw1/r001/u/stat", said.model_copy(update={"devices": devices}).pack()), at(CORE_NOW)
        )
        (seen,) = [effect.change for effect in step.effects if isinstance(effect, Write)]
        assert isinstance(seen, SawGateway)
        told.append(seen.heartbeat.devices)
    assert told == [None, known, known, {}, {}]


def test_heartbeat_with_a_meter_of_thousands_of_digits_becomes_a_dead_letter(core: Core) -> None:
    heartbeat = Heartbeat(
        time=CORE_NOW, store=7, backlog_parts=4, backlog_events=0, backlog_letters=0, aggregation="none"
    )
    named = json.loads(heartbeat.pack()) | {"minima": {"9" * 5000: (75, CORE_NOW)}}
    step = core.handle(FromGateway("cw1/r001/u/stat", json.dumps(named).encode()), at(CORE_NOW))
    assert step.result == "malformed"
    assert [type(change) for change in writes_of(step)] == [KeepDeadLetter]


@pytest.mark.parametrize("payload", [b"[]", b"{", b'"x"', b"\xff", b"[" * 3000, json.dumps({"x": "y" * 5000}).encode()])
def test_heartbeat_that_is_no_small_object_becomes_a_letter(core: Core, payload: bytes) -> None:
    step = core.handle(FromGateway("cw1/r001/u/stat", payload), at(CORE_NOW))
    assert step.result == "malformed"
    assert [type(change) for change in writes_of(step)] == [KeepDeadLetter]


def test_outcome_closes_command_and_brings_absent_slots_of_its_own_meters(core: Core) -> None:
    outcome = ControllerOutcome.model_validate(
        {
            "id": "g1",
            "cmd": "get",
            "result": "done",
            "time": CORE_NOW,
            "absent": [["10001", 3, 5, "ff"], ["20001", 3, 5, "ff"]],
        }
    )
    step = core.handle(FromGateway("cw1/r001/u/out", outcome.pack()), at(CORE_NOW))
    (change,) = writes_of(step)
    assert isinstance(change, CloseCommand)
    assert (change.id, change.controller, change.state, change.absent) == ("g1", "r001", "done", ((10001, 3, 5, 255),))
    assert core.handle(FromGateway("cw1/r001/u/out", b"{}"), at(CORE_NOW)).result == "malformed"


def test_command_is_sent_every_ten_seconds_until_it_is_gone_or_too_old(core: Core) -> None:
    command = OpenCommand(id="c1", controller="r001", message="{}", until=CORE_NOW + 25)
    sent = {
        second: [
            e for e in core.handle(CommandsOpen((command,)), at(CORE_NOW + second)).effects if isinstance(e, Publish)
        ]
        for second in range(0, 24, 2)
    }
    assert [second for second, messages in sent.items() if messages] == [0, 10, 20]
    assert sent[0] == [Publish("cw1/r001/d/cmd", b"{}")]
    assert core.handle(CommandsOpen(()), at(CORE_NOW + 24)).effects == ()
    assert core.handle(CommandsOpen((command,)), at(CORE_NOW + 25)).effects == (
        Write(CloseCommand(id="c1", controller="r001", state="expired")),
    )


def test_command_is_sent_again_though_the_clock_was_set_back(core: Core) -> None:
    command = OpenCommand(id="c1", controller="r001", message="{}", until=CORE_NOW + 25)
    assert (
        len(core.handle(CommandsOpen((command,)), at(CORE_NOW)).effects)
        == len(core.handle(CommandsOpen((command,)), at(CORE_NOW - 3600)).effects)
        == 1
    )
    assert core.handle(CommandsOpen((command,)), at(CORE_NOW - 3595)).effects == ()


def test_time_is_told_with_its_trust(core: Core) -> None:
    packed = batch(blocks({0: 5})).pack()
    for payload in (packed, packed[:-1]):
        for trust in (Trust.NONE, Trust.NETWORK):
            assert (
                ack_of(CoreStep("", core.handle(FromGateway(TOPIC, payload), at(CORE_NOW, trust)).effects[-1:])).trust
                is trust
            )


START = 1_800_000_000


def play(overload: Overload, *phases: tuple[int, float], start: EpochSeconds = START) -> list[EpochSeconds]:
    """Let the oldest message have an age for some seconds, phase by phase; return when gateways were slowed down."""
    ages = [oldest_s for seconds, oldest_s in phases for _ in range(0, seconds, 5)]
    return [start + 5 * at for at, oldest_s in enumerate(ages) if overload.look(oldest_s, start + 5 * at)]


def test_gateways_are_slowed_down_after_five_minutes_above_a_minute() -> None:
    assert not play(Overload(), (LATE_FOR_S, 61), (60, 59), (LATE_FOR_S, 61))
    assert play(Overload(), (LATE_FOR_S + 5, 61)) == [START + LATE_FOR_S]


def test_it_ends_after_half_an_hour_below_ten_seconds_in_a_row() -> None:
    overload = Overload()
    told = play(overload, (900, 90), (600, 30), (SLOW_S - 300, 5), (10, GOOD_S), (SLOW_S + 300, 5), (600, 30))
    assert told[-1] == START + 900 + 600 + SLOW_S - 300 + 5
    assert max(later - earlier for earlier, later in pairwise(told)) <= SLOW_S
    assert not overload.lags(told[-1] + SLOW_S)


def test_a_clock_set_back_ends_it() -> None:
    overload = Overload()
    play(overload, (900, 90))
    assert overload.lags(START + 900)
    assert not overload.lags(START - 5_000)
    assert not overload.look(30, START - 5_000)


def test_an_acknowledgement_says_it_where_earlier_gateways_read_nothing() -> None:
    said = BatchAck(time=START, utility_store=1, store=2, sequence=3, slow_s=SLOW_S)
    assert unpack_batch_ack(said.pack()) == said
    silent = BatchAck(time=START, utility_store=1, store=2, sequence=3)
    assert [at for at, (a, b) in enumerate(zip(said.pack(), silent.pack(), strict=True)) if a != b and at < 48] == [
        6,
        7,
    ]


PACE_NOW = 1000.0


def test_what_has_no_dead_letters_never_waits() -> None:
    pace = BatchPace()
    assert {pace.wait_s("a", 0, PACE_NOW) for _ in range(10_000)} == {0.0}


def test_a_gateway_with_a_few_thousand_waits_seconds_and_loses_nothing() -> None:
    pace = BatchPace()
    waits = [pace.wait_s("a", 500, PACE_NOW) for _ in range(4)]  # the most that an honest gateway has on their way
    assert waits == [0.0, 0.0, 500 / PER_S, 1000 / PER_S]


def test_a_flood_passes_at_the_rate_and_the_rest_is_dropped() -> None:
    pace = BatchPace()
    waits = [pace.wait_s("a", 200, PACE_NOW + n / 100) for n in range(10_000)]
    passed = 200 * sum(wait_s is not None for wait_s in waits)
    assert BURST < passed <= BURST + PER_S * 100 * 2 + MAX_WAITING * 200


def test_a_flood_delays_no_other_gateway() -> None:
    pace = BatchPace()
    for n in range(1000):
        pace.wait_s("a", 200, PACE_NOW + n / 100)
    assert pace.wait_s("b", 200, PACE_NOW + 10) == 0.0


def test_many_floods_together_hold_a_bounded_number_of_batches() -> None:
    pace = BatchPace()
    waits = [pace.wait_s(f"g{n % 801}", BURST, PACE_NOW) for n in range(801 * 20)]
    assert sum(bool(wait_s) for wait_s in waits) == MAX_WAITING_OF_ALL
    assert pace.wait_s("g0", 1, PACE_NOW + 60) == 0.0, "once they are gone, it takes more"


HALF = {"since": NOW - 4_000, "begins": NOW - 3_600, "parts": 1_000, "left": 500, "per_hour": 500}


def hear(database: Database, seen: int = NOW - 36, **told: object) -> None:
    beat = a_heartbeat(refilling={"r001": HALF | told})
    Writer(database).commit([SawGateway(controller="r001", time=seen, heartbeat=beat)])


def test_the_page_says_how_far_each_gateway_is_and_who_is_missing(
    browser: Callable[..., Browser], database: Database
) -> None:
    hear(database)
    text = text_of(browser(Role.OPERATOR).get("/console/refilling"))
    assert "r002 residential r002 ■ not heard" in text
    assert "r001 residential r001 ○ refilling 505 1,000 50 500" in text


def test_a_refill_goes_on_between_heartbeats_and_stops_with_them(database: Database) -> None:
    hear(database)
    with database.reads.begin() as connection:
        soon, later = (
            next(row for row in refills(connection, now) if row.microgrid == "r001") for now in (NOW, NOW + 600)
        )
    assert (soon.state, soon.sent, soon.end) == ("refilling", 505, NOW - 36 + 3_600)
    assert (later.state, later.sent, later.end) == ("not heard", 500, None)


def test_a_refill_that_ended_is_listed_last(database: Database) -> None:
    hear(database, left=0, end=NOW - 60, per_hour=None)
    with database.reads.begin() as connection:
        rows = refills(connection, NOW)
    assert (rows[-1].microgrid, rows[-1].state, rows[-1].percent, rows[-1].end) == ("r001", "refilled", 100, NOW - 60)
    assert {row.state for row in rows[:-1]} == {"not heard"}


REDUCE = OpenCommand(
    id="c1",
    controller="r001",
    message='{"v":1,"id":"c1","cmd":"reduce","until":1800009000,"state":"off"}',
    until=CORE_NOW + 9000,
)
GET = OpenCommand(
    id="g1",
    controller="r002",
    message='{"v":1,"id":"g1","cmd":"hosted","until":1800009000,"microgrid":"r001","epoch":[4,2],"command":'
    '{"v":1,"id":"g1","cmd":"get","until":1800009000,"blocks":[]}}',
    until=CORE_NOW + 9000,
)


def sent(effects: list[Effect[UtilityChange]]) -> list[tuple[str, str]]:
    """Return receiver and command of each message."""
    messages = [effect for effect in effects if isinstance(effect, Publish)]
    return [(one.topic.split("/")[1], json.loads(one.payload)["cmd"]) for one in messages]


def told(
    command: OpenCommand, result: str = "done", reason: str | None = None, cmd: str = "reduce"
) -> ControllerOutcome:
    return ControllerOutcome.model_validate(
        {"id": command.id, "cmd": cmd, "result": result, "reason": reason, "time": CORE_NOW}
    )


def closed(step: CoreStep) -> list[str]:
    changes = [effect.change for effect in step.effects if isinstance(effect, Write)]
    return [change.controller for change in changes if isinstance(change, CloseCommand)]


def test_a_command_goes_plain_to_its_own_controller_and_wrapped_to_another_manager() -> None:
    sending = Sending()
    sending.managers = {"r001": ("r001", (1, 1))}
    assert sent(sending.due([REDUCE], CORE_NOW)) == [("r001", "reduce")]
    sending.managers = {"r001": ("r002", (2, 2))}
    (message,) = sending.due([REDUCE], CORE_NOW + 1)
    assert isinstance(message, Publish)
    assert message.topic == "cw1/r002/d/cmd"
    wrapped = json.loads(message.payload)
    assert (wrapped["cmd"], wrapped["microgrid"], wrapped["epoch"]) == ("hosted", "r001", [2, 2])
    assert (wrapped["id"], wrapped["command"]["id"], wrapped["command"]["cmd"]) == ("c1", "c1", "reduce")
    assert sent(sending.due([REDUCE], CORE_NOW + 2)) == []
    assert sent(sending.due([REDUCE], CORE_NOW + 1 + RESEND_S)) == [("r002", "hosted")]
    sending.managers = {"r001": ("r002", (3, 2))}
    assert sent(sending.due([REDUCE], CORE_NOW + 2 + RESEND_S)) == [("r002", "hosted")], "under its new epoch at once"


def test_the_outcome_of_an_earlier_manager_closes_nothing() -> None:
    sending = Sending()
    sending.due([REDUCE], CORE_NOW)
    sending.managers = {"r001": ("r002", (2, 2))}
    sending.due([REDUCE], CORE_NOW + 2)
    assert closed(sending.answered("r001", told(REDUCE), ())) == []
    assert closed(sending.answered("r002", told(REDUCE), ())) == ["r001"]


@pytest.mark.parametrize("reason", ["deposed by [7, 3]", "the epoch is [7, 3]"])
def test_a_deposed_controller_names_the_epoch_in_force_and_the_command_stays_open(reason: str) -> None:
    sending = Sending()
    sending.due([REDUCE], CORE_NOW)
    step = sending.answered("r001", told(REDUCE, "refused", reason), ())
    assert closed(step) == []
    assert step.deposed == Deposed(controller="r001", microgrid="r001", epoch=(7, 3))
    sending.managers = {"r001": ("r003", (7, 3))}
    assert sent(sending.due([REDUCE], CORE_NOW + 1)) == [("r003", "hosted")]


def test_any_other_refusal_closes_the_command_as_always() -> None:
    sending = Sending()
    sending.due([REDUCE], CORE_NOW)
    assert closed(sending.answered("r001", told(REDUCE, "refused", "nothing to reduce"), ())) == ["r001"]


def test_a_request_for_data_goes_to_the_store_that_is_asked_whoever_manages() -> None:
    sending = Sending()
    sending.managers = {"r001": ("r003", (5, 3)), "r002": ("r003", (5, 3))}
    assert sent(sending.due([GET], CORE_NOW)) == [("r002", "hosted")]
    step = sending.answered("r002", told(GET, "refused", "the epoch is [5, 3]", cmd="hosted"), ())
    assert closed(step) == ["r002"], "it is asked again with the next search"
    assert step.deposed == Deposed(controller="r002", microgrid="r001", epoch=(5, 3))
