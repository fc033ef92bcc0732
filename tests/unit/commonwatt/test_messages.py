"""Puts, acknowledgements, levels and topics read back, nothing broken gets through; the delivery guarantee."""

import asyncio
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from commonwatt.model.effects import Effect, Publish, Write, perform
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.records import EventRecord, Log, Rejection
from commonwatt.model.time import Trust
from commonwatt.protocol import topics
from commonwatt.protocol.meter_messages import (
    MAX_ID,
    MAX_PUT_RANGE,
    MAX_PUT_RECORDS,
    LiveLevel,
    Put,
    PutAck,
    Refusal,
    unpack_level,
    unpack_put,
    unpack_put_ack,
)
from commonwatt.protocol.topics import GatewayTopic, MeterTopic, parse_gateway_up, parse_meter_up
from harness.surroundings.messages import a_record

u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)


def history(record_id: int, record_type: int = 3) -> bytes:
    return a_record(0, 5, meter=77, record_id=record_id, kind=record_type, account=12).pack()


def event(record_id: int) -> bytes:
    return EventRecord(previous_state=0, new_state=1, record_id=record_id, meter_id=77, time=9).pack()


@st.composite
def puts(draw: st.DrawFn) -> Put:
    log = draw(st.sampled_from(Log))
    size = 36 if log is Log.HISTORY else 24
    records = tuple(draw(st.lists(st.binary(min_size=size, max_size=size), max_size=5)))
    first = draw(st.integers(0, MAX_ID - 10))
    covered = draw(st.integers(max(1, len(records)), 10))
    return Put(log=log, generation=draw(u32), first_id=first, last_id=first + covered - 1, records=records)


acks = st.builds(
    PutAck,
    log=st.sampled_from(Log),
    status=st.sampled_from(Refusal),
    trust=st.sampled_from(Trust),
    generation=u32,
    first_id=u64,
    last_id=u64,
    time=u32,
    accepted=st.lists(st.tuples(st.integers(0, 255), u32), max_size=5).map(tuple),
    rejected=st.lists(st.tuples(u64, st.sampled_from(Rejection)), max_size=5).map(tuple),
)
levels = st.builds(LiveLevel, state=st.integers(0, 2**16 - 1), time=u32, level=st.integers(-(2**63), 2**63 - 1))

Unpack = Callable[[bytes], object]
MESSAGES: list[tuple[Unpack, st.SearchStrategy[bytes]]] = [
    (unpack_put, puts().map(Put.pack)),
    (unpack_put_ack, acks.map(PutAck.pack)),
    (unpack_level, levels.map(LiveLevel.pack)),
]
every_message = pytest.mark.parametrize(("unpack", "messages"), MESSAGES, ids=["put", "ack", "level"])


def recrc(data: bytes) -> bytes:
    return data[:-4] + struct.pack(">I", zlib.crc32(data[:-4]))


@given(puts())
def test_put_reads_back_as_it_was_sent(put: Put) -> None:
    assert unpack_put(put.pack()) == put


@given(acks)
def test_acknowledgement_reads_back_as_it_was_sent(ack: PutAck) -> None:
    assert unpack_put_ack(ack.pack()) == ack


@given(levels)
def test_level_reads_back_as_it_was_sent(level: LiveLevel) -> None:
    assert unpack_level(level.pack()) == level


@every_message
@given(data=st.data())
@settings(max_examples=60)
def test_flipped_bit_is_a_protocol_error(
    unpack: Unpack, messages: st.SearchStrategy[bytes], data: st.DataObject
) -> None:
    damaged = bytearray(data.draw(messages))
    bit = data.draw(st.integers(0, len(damaged) * 8 - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ProtocolError):
        unpack(bytes(damaged))


@every_message
@given(data=st.data())
@settings(max_examples=60)
def test_cut_or_extended_message_is_a_protocol_error(
    unpack: Unpack, messages: st.SearchStrategy[bytes], data: st.DataObject
) -> None:
    message = data.draw(messages)
    cut = message[: data.draw(st.integers(0, len(message) - 1))]
    extended = message + data.draw(st.binary(min_size=1, max_size=40))
    for broken in (cut, extended):
        with pytest.raises(ProtocolError):
            unpack(broken)
        if len(broken) >= 4:
            with pytest.raises(ProtocolError):
                unpack(recrc(broken))


@every_message
@given(junk=st.binary(max_size=120))
@settings(max_examples=150)
def test_junk_is_a_protocol_error_and_nothing_else(
    unpack: Unpack, messages: st.SearchStrategy[bytes], junk: bytes
) -> None:
    with pytest.raises(ProtocolError):
        unpack(junk)


@every_message
@given(data=st.data())
@settings(max_examples=150)
def test_any_fields_under_a_right_checksum_read_or_are_a_protocol_error(
    unpack: Unpack, messages: st.SearchStrategy[bytes], data: st.DataObject
) -> None:
    message = bytearray(data.draw(messages))
    for _ in range(3):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        unpack(recrc(bytes(message)))
        code = int(Refusal.NONE)
    except ProtocolError as error:
        code = error.code
    assert code in (Refusal.NONE, Refusal.MALFORMED, Refusal.VERSION, Refusal.TOO_LARGE)


HEAD = struct.Struct(">BBHIQQ")


@pytest.mark.parametrize(
    ("head", "records", "code"),
    [
        ((2, 1, 0, 1, 1, 1), b"", Refusal.VERSION),
        ((0, 1, 0, 1, 1, 1), b"", Refusal.VERSION),
        ((1, 0, 0, 1, 1, 1), b"", Refusal.MALFORMED),
        ((1, 3, 0, 1, 1, 1), b"", Refusal.MALFORMED),
        ((1, 1, 0, 1, 2, 1), b"", Refusal.MALFORMED),
        ((1, 1, 2, 1, 1, 1), bytes(72), Refusal.MALFORMED),
        ((1, 1, 1, 1, 1, 1), bytes(24), Refusal.MALFORMED),
        ((1, 2, 1, 1, 1, 1), bytes(36), Refusal.MALFORMED),
        ((1, 1, 1001, 1, 1, 1001), bytes(36 * 1001), Refusal.TOO_LARGE),
        ((1, 1, 0, 1, 1, MAX_PUT_RANGE + 1), b"", Refusal.TOO_LARGE),
        ((1, 1, 0, 1, 0, 2**64 - 1), b"", Refusal.TOO_LARGE),
    ],
)
def test_refused_put_is_told_why(head: tuple[int, ...], records: bytes, code: Refusal) -> None:
    data = recrc(HEAD.pack(*head) + records + bytes(4))
    with pytest.raises(ProtocolError) as caught:
        unpack_put(data)
    assert caught.value.code == code


def test_damaged_put_is_told_to_be_sent_again_not_that_it_is_malformed() -> None:
    data = Put(log=Log.HISTORY, generation=1, first_id=1, last_id=1, records=(history(1),)).pack()
    with pytest.raises(ProtocolError) as caught:
        unpack_put(data[:-1] + bytes([data[-1] ^ 1]))
    assert caught.value.code == Refusal.CHECKSUM


def test_largest_put_the_page_allows_is_taken() -> None:
    records = tuple(history(i) for i in range(1, MAX_PUT_RECORDS + 1))
    put = Put(log=Log.HISTORY, generation=1, first_id=1, last_id=MAX_PUT_RANGE, records=records)
    assert unpack_put(put.pack()) == put


@pytest.mark.parametrize("unpack", [unpack_put_ack, unpack_level])
def test_answer_of_another_version_is_refused(unpack: Unpack) -> None:
    ack = PutAck(log=Log.HISTORY, generation=1, first_id=1, last_id=1, time=1).pack()
    data = ack if unpack is unpack_put_ack else LiveLevel(state=1, time=1, level=1).pack()
    unpack(data)
    with pytest.raises(ProtocolError) as caught:
        unpack(recrc(b"\x02" + data[1:]))
    assert caught.value.code == Refusal.VERSION


# Three readings, one of them generation, of six ids: three were consolidated away.
PUT = Put(log=Log.HISTORY, generation=7, first_id=10, last_id=15, records=(history(10), history(12, 1), history(15)))
CONFIRMS = PutAck(log=Log.HISTORY, generation=7, first_id=10, last_id=15, time=1, accepted=((1, 1), (3, 2)))
FUTURE = Rejection.FUTURE


@pytest.mark.parametrize(
    ("accepted", "rejected"),
    [
        (((1, 1), (3, 2)), ()),
        (((3, 2), (1, 1)), ()),
        (((3, 2),), ((12, FUTURE),)),
        (((1, 1), (3, 1)), ((15, FUTURE),)),
        ((), ((10, FUTURE), (12, FUTURE), (15, FUTURE))),
    ],
)
def test_meter_deletes_what_is_confirmed_exactly(
    accepted: tuple[tuple[int, int], ...], rejected: tuple[tuple[int, Rejection], ...]
) -> None:  # req: M6
    assert replace(CONFIRMS, accepted=accepted, rejected=rejected).confirms(PUT)


@pytest.mark.parametrize(
    "near_miss",
    [
        {"status": Refusal.BUSY},
        {"log": Log.EVENT},
        {"generation": 8},
        {"generation": 6},
        {"first_id": 9},
        {"first_id": 11},
        {"last_id": 14},
        {"last_id": 16},
        {"accepted": ()},
        {"accepted": ((3, 3),)},
        {"accepted": ((1, 1), (3, 1))},
        {"accepted": ((1, 1), (3, 3))},
        {"accepted": ((1, 2), (3, 1))},
        {"accepted": ((1, 1), (2, 2))},
        {"accepted": ((0, 3),)},
        {"accepted": ((1, 1), (3, 5), (3, 2))},
        {"rejected": ((15, FUTURE),)},
        {"accepted": ((3, 2),), "rejected": ((11, FUTURE),)},
        {"accepted": ((3, 1),), "rejected": ((15, FUTURE), (15, FUTURE))},
        {"accepted": (), "rejected": ((10, FUTURE), (12, FUTURE))},
    ],
    ids=str,
)
def test_meter_deletes_nothing_on_a_near_miss(near_miss: dict[str, int]) -> None:  # req: M6
    assert CONFIRMS.confirms(PUT)
    assert not replace(CONFIRMS, **near_miss).confirms(PUT)  # type: ignore[arg-type]


def test_events_are_confirmed_as_type_0() -> None:  # req: M6
    put = Put(log=Log.EVENT, generation=1, first_id=1, last_id=2, records=(event(1), event(2)))
    ack = PutAck(log=Log.EVENT, generation=1, first_id=1, last_id=2, time=1, accepted=((0, 2),))
    assert put.counts() == {0: 2}
    assert ack.confirms(put)
    assert replace(ack, accepted=((0, 1),), rejected=((2, Rejection.CONTRADICTS),)).confirms(put)
    assert not replace(ack, accepted=((3, 2),)).confirms(put)


def test_put_of_ids_whose_records_were_all_averaged_away_is_confirmed_by_an_empty_count() -> None:
    put = Put(log=Log.HISTORY, generation=1, first_id=1, last_id=4, records=())
    assert PutAck(log=Log.HISTORY, generation=1, first_id=1, last_id=4, time=1).confirms(put)


@given(puts(), puts())
@settings(max_examples=50)
def test_acknowledgement_of_one_batch_never_deletes_another(a: Put, b: Put) -> None:  # req: M6
    assume((a.log, a.generation, a.first_id, a.last_id) != (b.log, b.generation, b.first_id, b.last_id))
    ack = PutAck(
        log=a.log,
        generation=a.generation,
        first_id=a.first_id,
        last_id=a.last_id,
        time=1,
        accepted=tuple(a.counts().items()),
    )
    assert ack.confirms(a)
    assert not ack.confirms(b)


def test_put_tells_its_records() -> None:
    assert [record.record_id for record in PUT.history()] == PUT.ids() == [10, 12, 15]
    assert PUT.counts() == {3: 2, 1: 1}
    put = Put(log=Log.EVENT, generation=1, first_id=1, last_id=2, records=(event(1), event(2)))
    assert [e.record_id for e in put.events()] == put.ids() == [1, 2]


microgrids = st.from_regex(r"\A[a-z][a-z0-9-]{0,15}\Z")
meters = st.integers(0, 2**64 - 1)


@given(microgrids, meters, st.sampled_from([topics.RECORDS, topics.EVENTS, topics.LEVELS, topics.OUTCOMES]))
def test_meters_topic_parses_back(microgrid: str, meter: int, leaf: str) -> None:
    topic = topics.meter_up(microgrid, meter, leaf)
    assert parse_meter_up(topic) == MeterTopic(microgrid, meter, leaf)
    assert parse_gateway_up(topic) is None


@given(microgrids, st.sampled_from([topics.BATCHES, topics.STATUS, topics.OUTCOMES]))
def test_gateways_topic_parses_back(microgrid: str, leaf: str) -> None:
    topic = topics.gateway_up(microgrid, leaf)
    assert parse_gateway_up(topic) == GatewayTopic(microgrid, leaf)
    assert parse_meter_up(topic) is None


@given(st.text())
def test_junk_is_no_topic(text: str) -> None:
    assert parse_meter_up(text) is None
    assert parse_gateway_up(text) is None


@pytest.mark.parametrize(
    "topic",
    [
        "cw1/r001/77/u/rec\n",
        "cw1/r001/077/u/rec",
        "cw1/r001/+77/u/rec",
        "cw1/r001/-1/u/rec",
        "cw1/r001/18446744073709551616/u/rec",
        "cw1/r001/\N{ARABIC-INDIC DIGIT SEVEN}/u/rec",
        "cw1/r001/77/d/rec",
        "cw1/r001/77/u/ack",
        "cw1/r001/77/u/rec/x",
        "cw2/r001/77/u/rec",
        "cw1/R001/77/u/rec",
        "cw1/77/77/u/rec",
        "cw1/aaaaaaaaaaaaaaaaa/77/u/rec",
        "cw1/+/77/u/rec",
        "cw1/r001/77/u/+",
        "/cw1/r001/77/u/rec",
        "cw1//77/u/rec",
    ],
)
def test_near_miss_is_no_meters_topic(topic: str) -> None:
    assert parse_meter_up(topic) is None


@pytest.mark.parametrize(
    "topic", ["cw1/r001/u/rec", "cw1/77/u/batch", "cw1/r001/d/batch", "cw1/r001/u/batch\n", "cw1/r001/77/u/out"]
)
def test_near_miss_is_no_gateways_topic(topic: str) -> None:
    assert parse_gateway_up(topic) is None


def test_topics_are_those_of_the_page() -> None:
    assert topics.meter_down("r001", 77, topics.ACKS) == "cw1/r001/77/d/ack"
    assert topics.meter_down("r001", 77, "+") == "cw1/r001/77/d/+"
    assert topics.gateway_down("r001", topics.COMMANDS) == "cw1/r001/d/cmd"
    assert topics.all_meters_up("r001") == "cw1/r001/+/u/+"
    assert topics.all_gateways_up() == "cw1/+/u/+"


ACK = Publish("cw1/r001/77/d/ack", b"ack")


class Shell:
    """Notes the orders it gets, in order."""

    def __init__(self, error: Exception | None = None) -> None:
        self.done: list[object] = []
        self.error = error

    async def commit(self, writes: list[str]) -> None:
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        self.done.append(writes)

    def run(self, effects: list[Effect[str]]) -> list[object]:
        asyncio.run(perform(effects, self.commit, self.done.append))
        return self.done


def test_all_writes_are_committed_at_once_before_anything_is_published() -> None:
    again = Publish("other", b"", qos=0)
    assert Shell().run([ACK, Write("a"), again, Write("b")]) == [["a", "b"], ACK, again]


def test_nothing_is_published_when_the_commit_fails() -> None:  # req: M6
    shell = Shell(OSError("disk full"))
    with pytest.raises(OSError, match="disk full"):
        shell.run([Write("a"), ACK])
    assert shell.done == []


def test_store_is_not_touched_without_writes() -> None:
    assert Shell(OSError("not asked")).run([ACK]) == [ACK]
    assert Shell().run([]) == []


def test_what_must_arrive_is_sent_at_qos_1_unless_said_otherwise() -> None:
    assert ACK.qos == 1
