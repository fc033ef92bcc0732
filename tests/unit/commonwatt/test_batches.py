"""Batches, their acknowledgements and dead letters: they read back, keep to their limits, and say what they are."""

import struct
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from commonwatt.cli.main import make_app
from commonwatt.codec.packing_arrays import MAX_PAYLOAD_BYTES, Payloads
from commonwatt.look.dead_letter_words import counts_of, told, wanted
from commonwatt.model.blocks import Keys
from commonwatt.model.exceptions import ConfigError, ProtocolError
from commonwatt.model.records import EventRecord, Log
from commonwatt.model.time import Trust
from commonwatt.protocol.batches import (
    MAX_BATCH_BLOCKS,
    MAX_BATCH_BYTES,
    MAX_BATCH_DEAD_LETTERS,
    MAX_BATCH_EVENTS,
    MAX_BODY_BYTES,
    Batch,
    BatchAck,
    BatchFlag,
    BatchRefusal,
    unpack_batch,
    unpack_batch_ack,
)
from commonwatt.protocol.dead_letters import (
    MAX_DEAD_LETTER_BYTES,
    DeadLetter,
    DeadLetterFilter,
    DeadLetterSource,
    quarantined_blocks,
    source_text,
)
from commonwatt.protocol.meter_messages import LiveLevel, Put
from gateway.store.changes import AddDeadLetters
from gateway.store.store import Store

u8, u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
HEAD = struct.Struct(">4sBBBBIQQIIII")

dead_letters = st.builds(
    DeadLetter,
    meter=u64,
    log=u8,
    reason=u8,
    generation=u32,
    record_id=u64,
    time=u32,
    content=st.binary(max_size=MAX_DEAD_LETTER_BYTES),
)
events = st.builds(EventRecord, previous_state=u16, new_state=u16, record_id=u64, meter_id=u64, time=u32)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    blocks = draw(st.lists(st.tuples(st.tuples(u64, u8, u32), st.binary(max_size=80)), max_size=6))
    return Batch(
        owner=draw(st.from_regex(r"\A[a-z][a-z0-9-]{0,15}\Z")),
        store=draw(u64),
        sequence=draw(u64),
        time=draw(u32),
        trust=draw(st.sampled_from(Trust)),
        flags=draw(st.sampled_from([BatchFlag(0), BatchFlag.ANSWER, BatchFlag.URGENT])) | BatchFlag.COMPRESSED,
        keys=Keys.of([key for key, _ in blocks]),
        payloads=Payloads.of(payload for _, payload in blocks),
        events=draw(st.lists(st.tuples(u32, events), max_size=4)),
        dead_letters=draw(st.lists(dead_letters, max_size=3)),
    )


acks = st.builds(
    BatchAck,
    status=st.sampled_from(BatchRefusal),
    trust=st.sampled_from(Trust),
    time=u32,
    utility_store=u64,
    store=u64,
    sequence=u64,
    blocks=u32,
    events=u32,
    dead_letters=u32,
)

EMPTY = Batch(
    owner="r001", store=1, sequence=1, time=1, keys=Keys.of([]), payloads=Payloads.of([]), events=[], dead_letters=[]
)


def message(
    body: bytes, *, blocks: int = 0, events: int = 0, dead_letters: int = 0, flags: int = 0, length: int | None = None
) -> bytes:
    """Make a batch by hand, with any counts and any body."""
    size = len(body) if length is None else length
    data = HEAD.pack(b"CWB1", flags, 0, 4, 0, 1, 1, 1, blocks, events, dead_letters, size) + b"r001" + body
    return recrc(data + bytes(4))


def recrc(data: bytes) -> bytes:
    return data[:-4] + struct.pack(">I", zlib.crc32(data[:-4]))


def code_of(data: bytes) -> int:
    with pytest.raises(ProtocolError) as caught:
        unpack_batch(data)
    return caught.value.code


@given(batches())
@settings(max_examples=60)
def test_batch_reads_back_as_it_was_sent(batch: Batch) -> None:
    assert unpack_batch(batch.pack()) == batch


@given(acks)
def test_batch_acknowledgement_reads_back_as_it_was_sent(ack: BatchAck) -> None:
    data = ack.pack()
    assert len(data) == 52
    assert unpack_batch_ack(data) == ack


def test_full_batch_reads_back() -> None:
    event = EventRecord(previous_state=0, new_state=1, record_id=1, meter_id=2**64 - 1, time=3)
    dead_letter = DeadLetter(
        meter=1, log=0, reason=129, generation=0, record_id=1, time=1, content=b"?" * MAX_DEAD_LETTER_BYTES
    )
    batch = replace(
        EMPTY,
        flags=BatchFlag.COMPRESSED,
        keys=Keys.of([(2**64 - 1 - i, 3, i) for i in range(MAX_BATCH_BLOCKS)]),
        payloads=Payloads.of(bytes([i % 256]) * (i % 1_000) for i in range(MAX_BATCH_BLOCKS)),
        events=[(5, event)] * MAX_BATCH_EVENTS,
        dead_letters=[dead_letter] * MAX_BATCH_DEAD_LETTERS,
    )
    data = batch.pack()
    assert len(data) < MAX_BATCH_BYTES
    assert unpack_batch(data) == batch


def test_uncompressed_batch_is_read_too() -> None:
    body = struct.pack(">QIBH", 77, 9, 3, 2) + b"ab"
    batch = unpack_batch(message(body, blocks=1))
    assert (list(batch.keys), list(batch.payloads), batch.flags) == ([(77, 3, 9)], [b"ab"], BatchFlag(0))


def test_long_letter_is_cut_to_its_first_kilobyte() -> None:
    dead_letter = DeadLetter(meter=1, log=0, reason=129, generation=0, record_id=1, time=1, content=bytes(5_000))
    assert unpack_batch(replace(EMPTY, dead_letters=[dead_letter]).pack()).dead_letters[0].content == bytes(
        MAX_DEAD_LETTER_BYTES
    )


@given(batches(), st.data())
@settings(max_examples=40)
def test_damaged_batch_is_a_protocol_error(batch: Batch, data: st.DataObject) -> None:
    sent = batch.pack()
    flipped = bytearray(sent)
    bit = data.draw(st.integers(0, len(sent) * 8 - 1))
    flipped[bit // 8] ^= 1 << bit % 8
    code_of(bytes(flipped))
    code_of(sent[: data.draw(st.integers(0, len(sent) - 1))])
    code_of(sent + b"x")


@given(batches(), st.data())
@settings(max_examples=100)
def test_any_bytes_under_a_right_checksum_read_or_are_a_protocol_error(batch: Batch, data: st.DataObject) -> None:
    changed = bytearray(batch.pack())
    for _ in range(3):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        unpack_batch(recrc(bytes(changed)))
        code = BatchRefusal.MALFORMED
    except ProtocolError as error:
        code = BatchRefusal(error.code)
    assert code is BatchRefusal.MALFORMED


@given(st.binary(max_size=120), *[st.integers(0, 3)] * 3)
@settings(max_examples=150)
def test_any_body_reads_or_is_a_protocol_error(body: bytes, blocks: int, events: int, dead_letters: int) -> None:
    try:
        batch = unpack_batch(message(body, blocks=blocks, events=events, dead_letters=dead_letters))
    except ProtocolError as error:
        code = error.code
    else:
        code = BatchRefusal.MALFORMED
        assert (len(batch.keys), len(batch.payloads), len(batch.events)) == (blocks, blocks, events)
    assert code == BatchRefusal.MALFORMED


@given(st.one_of(st.binary(max_size=120), st.binary(max_size=120).map(b"CWB1".__add__)))
@settings(max_examples=150)
def test_junk_is_a_protocol_error_and_nothing_else(junk: bytes) -> None:
    code_of(junk)
    with pytest.raises(ProtocolError):
        unpack_batch_ack(junk)


@given(acks, st.integers(0, 52 * 8 - 1), st.integers(0, 51))
def test_damaged_batch_acknowledgement_confirms_nothing(ack: BatchAck, bit: int, cut: int) -> None:
    data = ack.pack()
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    for broken in (bytes(flipped), data[:cut], data + b"x"):
        with pytest.raises(ProtocolError):
            unpack_batch_ack(broken)


@pytest.mark.parametrize("offset", [4, 5], ids=["status", "trust"])
def test_batch_acknowledgement_of_an_unknown_kind_confirms_nothing(offset: int) -> None:
    data = bytearray(BatchAck(time=1, utility_store=1, store=1, sequence=1).pack())
    data[offset] = 99
    with pytest.raises(ProtocolError) as caught:
        unpack_batch_ack(recrc(bytes(data)))
    assert caught.value.code == BatchRefusal.MALFORMED


@pytest.mark.parametrize(
    ("more", "limit"),
    [
        (lambda n: replace(EMPTY, keys=Keys.of([(1, 3, 1)] * n), payloads=Payloads.of([b""] * n)), MAX_BATCH_BLOCKS),
        (
            lambda n: replace(
                EMPTY,
                events=[(1, EventRecord(previous_state=0, new_state=1, record_id=1, meter_id=1, time=1))] * n,
            ),
            MAX_BATCH_EVENTS,
        ),
        (
            lambda n: replace(
                EMPTY,
                dead_letters=[DeadLetter(meter=1, log=0, reason=1, generation=0, record_id=1, time=1, content=b"")] * n,
            ),
            MAX_BATCH_DEAD_LETTERS,
        ),
    ],
    ids=["blocks", "events", "letters"],
)
def test_batch_over_a_limit_is_refused(more: Callable[[int], Batch], limit: int) -> None:
    unpack_batch(more(limit).pack())
    assert code_of(more(limit + 1).pack()) == BatchRefusal.MALFORMED


def test_batch_longer_than_a_message_may_be_is_refused() -> None:
    assert code_of(message(bytes(MAX_BATCH_BYTES))) == BatchRefusal.MALFORMED


def test_payload_longer_than_a_payload_may_be_is_refused() -> None:
    size = MAX_PAYLOAD_BYTES + 1
    assert code_of(message(struct.pack(">QIBH", 77, 9, 3, size) + bytes(size), blocks=1)) == BatchRefusal.MALFORMED


def test_letter_longer_than_a_letter_may_be_is_refused() -> None:
    size = MAX_DEAD_LETTER_BYTES + 1
    body = struct.pack(">QBBIQIH", 1, 0, 1, 1, 1, 1, size) + bytes(size)
    assert code_of(message(body, dead_letters=1)) == BatchRefusal.MALFORMED


@pytest.mark.parametrize("states_its_size", [True, False])
@pytest.mark.parametrize("stated", [10, MAX_BODY_BYTES, MAX_BODY_BYTES + 1, 64 * 1024 * 1024])
def test_decompression_bomb_is_refused_without_expanding_it(stated: int, states_its_size: bool) -> None:
    bomb = zstandard.ZstdCompressor(write_content_size=states_its_size).compress(bytes(64 * 1024 * 1024))
    data = message(bomb, flags=BatchFlag.COMPRESSED, length=stated)
    assert len(data) < 10_000
    tracemalloc.start()
    assert code_of(data) == BatchRefusal.MALFORMED
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * MAX_BODY_BYTES


def test_frame_that_states_an_absurd_size_is_refused() -> None:
    frame = bytearray(zstandard.ZstdCompressor().compress(bytes(70_000)))
    # Frame header: single segment, eight bytes of content size.
    absurd = bytes(frame[:4]) + b"\xe0" + struct.pack("<Q", 2**60) + bytes(frame[9:])
    assert zstandard.frame_content_size(absurd) == 2**60
    assert code_of(message(absurd, flags=BatchFlag.COMPRESSED, length=70_000)) == BatchRefusal.MALFORMED


NOON = 1_800_014_400


def dead_letter(source: int, content: bytes, reason: int = 129) -> DeadLetter:
    return DeadLetter(meter=7, log=source, reason=reason, generation=0, record_id=1, time=NOON, content=content)


PUT = Put(log=Log.HISTORY, generation=1, first_id=1, last_id=1, records=(bytes(36),)).pack()


@pytest.mark.parametrize(
    ("source", "content", "says"),
    [
        (DeadLetterSource.PUT_HISTORY, b"\x09" + PUT[1:], "put of version 9; this gateway speaks 1: 0901"),
        (DeadLetterSource.PUT_HISTORY, PUT[:-1], "put of 1 records, ids 1 to 1, in 63 bytes"),
        (DeadLetterSource.PUT_EVENT, bytes(1024), "the first kilobyte: 0000"),
        (DeadLetterSource.LEVEL, b"?", "level of 1 bytes"),
        (DeadLetterSource.OUTCOME, b'{"v":2}', "Outcome: v: Input should be 1"),
        (DeadLetterSource.COMMAND, b"[" * 400, "ControllerCommand"),
        (DeadLetterSource.BATCH, b"hello", "batch of 5 bytes"),
        (DeadLetterSource.STATUS, b"\x1b[2J\xff", "Heartbeat"),
        (DeadLetterSource.GATEWAY_OUTCOME, b"null", "ControllerOutcome"),
        (DeadLetterSource.BATCH_ACK, b"", "batch acknowledgement of 0 bytes"),
        (DeadLetterSource.UNKNOWN, b"\x01\x02", "0102"),
        (77, b"\x01\x02", "0102"),
    ],
)
def test_a_message_says_what_is_wrong_with_it_and_how_it_begins(source: int, content: bytes, says: str) -> None:
    text = told(dead_letter(source, content))
    assert says in text
    assert text.isprintable()


def test_an_implausible_level_says_how_much_it_claims() -> None:
    content = LiveLevel(state=1, time=NOON, level=99_000_000).pack()
    assert told(dead_letter(DeadLetterSource.LEVEL, content, reason=15)) == "12:00:00, 99000000 mWh"


@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=1024) | st.sampled_from([PUT, PUT[:50], bytes(36)]))
@settings(max_examples=300)
def test_any_letter_at_all_can_be_told_and_judged(source: int, reason: int, content: bytes) -> None:
    assert told(dead_letter(source, content, reason)).isprintable()
    assert quarantined_blocks(dead_letter(source, content, 15), (1, 2, 3)) is None


@pytest.mark.parametrize("log", [1, 22, 255])
def test_every_door_has_a_name(log: int) -> None:
    assert source_text(log) == {1: "history", 22: "batch", 255: "log 255"}[log]


def test_options_say_which_letters_are_wanted() -> None:
    asked = wanted("7", "Wrong-Meter", "2h", NOON)
    assert asked == DeadLetterFilter(meter=7, reasons=(1,), since=NOON - 7200)
    assert wanted(None, "240", "5", NOON) == DeadLetterFilter(reasons=(240,), since=5)
    assert wanted(None, None, "999999d", NOON).since == 0


@pytest.mark.parametrize(
    ("meter", "reason", "since", "says"),
    [
        ("x", None, None, "meter: 'x'"),
        (str(2**64), None, None, "meter"),
        (None, "heat", None, "there are: ahead, bad batch, bad flag"),
        (None, None, "soon", "since: 'soon' is no time; give .* or a time ago"),
        (None, None, "9" * 30, "since"),
        (None, None, "2026-11-01", "since: 2026-11-01 has no offset"),
    ],
)
def test_a_wrong_option_is_named(meter: str | None, reason: str | None, since: str | None, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        wanted(meter, reason, since, NOON)


def test_letters_are_counted_by_reason_and_state_most_first() -> None:
    counts = counts_of([(4, "", 2), (15, "quarantined", 9), (15, "refused", 1)])
    assert [(c["reason"], c["state"], c["dead_letters"]) for c in counts] == [
        ("implausible", "quarantined", 9),
        ("unaligned", "", 2),
        ("implausible", "refused", 1),
    ]


@pytest.fixture
def gateway(tmp_path: Path) -> Path:
    store = Store.open(tmp_path / "gateway.db")
    store.commit(
        [
            AddDeadLetters(
                (
                    dead_letter(DeadLetterSource.OUTCOME, b"[]"),
                    dead_letter(DeadLetterSource.HISTORY, bytes(36), reason=5),
                )
            )
        ]
    )
    store.close()
    config = tmp_path / "gateway.toml"
    config.write_text('[gateway]\nmicrogrid = "r001"\n')
    return config


def test_command_of_the_gateway_shows_its_letters(gateway: Path) -> None:
    run = CliRunner(env={"COLUMNS": "120"})
    words = ["gateway", "dead-letters"]
    shown = run.invoke(make_app("gateway"), [*words, "--config", str(gateway)])
    assert (shown.exit_code, "Outcome: Input should be an object" in shown.output) == (0, True), shown.output
    some = run.invoke(make_app("gateway"), [*words, "-c", str(gateway), "--reason", "empty", "--json"])
    assert (some.output.count('"no"'), '"reason_text": "empty"' in some.output) == (1, True)
    counted = run.invoke(make_app("gateway"), [*words, "-c", str(gateway), "--counts", "--meter", "7"])
    assert "message malformed" in counted.output
