"""What a client may send and gets: packets, streams, rates and its queue."""

import asyncio
from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.amqtt_broker import MAX_BYTES, MAX_MESSAGES, MAX_SENDING, SubscriberQueue
from broker.embedded import BURST_S, PACKET_BYTES, PacketAllowance
from broker.packets import (
    MAX_FILTERS,
    MAX_MESSAGE_BYTES,
    MAX_TOPIC_BYTES,
    Cut,
    ViolationError,
    header_is_whole,
    judge_body,
    judge_header,
)
from broker.streams import ClientReader, ClientWriter
from commonwatt.runtime.fair_queue import Bucket
from harness.network.mqtt import packet, text


def judge(data: bytes) -> Cut | None:
    """Judge one packet as the stream is read; ``None`` when it may pass."""
    header = b""
    while not header_is_whole(header):
        header += data[len(header) : len(header) + 1]
    try:
        length = judge_header(header)
        body = data[len(header) :]
        assert length == len(body)
        judge_body(header, body)
    except ViolationError as violation:
        return violation.reason
    return None


@pytest.mark.parametrize(
    "data",
    [
        packet(0x30, text("cw1/r001/7/u/lvl") + b"data"),
        packet(0x32, text("cw1/r001/7/u/rec") + b"\x00\x01"),
        packet(0x3B, text("t") + b"\xff\xff" + bytes(70_000)),
        packet(0x40, b"\x00\x01"),
        packet(0x82, b"\x00\x01" + text("cw1/r001/7/d/+") + b"\x01"),
        packet(0x82, b"\x00\x01" + (text("#") + b"\x02") * MAX_FILTERS),
        packet(0xA2, b"\x00\x01" + text("a") + text("b")),
        packet(0xC0, b""),
        packet(0xE0, b""),
    ],
)
def test_what_mqtt_allows_passes(data: bytes) -> None:
    assert judge(data) is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xc0\x80\x80\x80\x80", Cut.MALFORMED),  # a length of five bytes
        (packet(0x00, b""), Cut.PROTOCOL),
        (packet(0xF0, b""), Cut.PROTOCOL),
        (packet(0x10, text("MQTT")), Cut.PROTOCOL),  # a second CONNECT
        (packet(0x20, b"\0\0"), Cut.PROTOCOL),  # brokers send CONNACK
        (packet(0x50, b"\0\1"), Cut.PROTOCOL),  # PUBREC belongs to QoS 2
        (packet(0x34, text("t") + b"\0\1"), Cut.QOS),
        (packet(0x36, text("t") + b"\0\1"), Cut.MALFORMED),  # QoS 3
        (packet(0x38, text("t")), Cut.MALFORMED),  # again, at QoS 0
        (packet(0x32, text("t") + b"\0\0"), Cut.MALFORMED),  # packet id 0
        (packet(0x32, text("t") + b"\1"), Cut.MALFORMED),
        (packet(0x30, b"\x00\x09short"), Cut.MALFORMED),
        (packet(0x30, b"\x00"), Cut.MALFORMED),
        (packet(0x30, text("a/+/b")), Cut.TOPIC),
        (packet(0x30, text("a/#")), Cut.TOPIC),
        (packet(0x30, text("") + b"x"), Cut.TOPIC),
        (packet(0x30, text("a\0b")), Cut.TOPIC),
        (packet(0x30, text(b"\xff\xfe")), Cut.TOPIC),
        (packet(0x30, text(b"\xed\xa0\x80")), Cut.TOPIC),  # half of a surrogate pair
        (packet(0x30, text("a" * (MAX_TOPIC_BYTES + 1))), Cut.TOPIC),
        (packet(0x30, bytes(200))[:1] + b"\x81\x80\x40", Cut.OVERSIZE),
        (packet(0x41, b"\0\1"), Cut.MALFORMED),
        (packet(0x40, b"\0\0"), Cut.MALFORMED),
        (packet(0x40, b"\0\1\0"), Cut.OVERSIZE),
        (packet(0x80, b"\0\1" + text("a") + b"\0"), Cut.MALFORMED),  # flags
        (packet(0x82, b"\0\1"), Cut.MALFORMED),
        (packet(0x82, b"\0\0" + text("a") + b"\0"), Cut.MALFORMED),
        (packet(0x82, b"\0\1" + text("a") + b"\3"), Cut.MALFORMED),  # QoS 3
        (packet(0x82, b"\0\1" + text("aa")), Cut.MALFORMED),  # no QoS
        (packet(0x82, b"\0\1" + text("") + b"\0\0\0"), Cut.TOPIC),
        (packet(0x82, b"\0\1" + (text("a") + b"\0") * (MAX_FILTERS + 1)), Cut.OVERSIZE),
        (packet(0xA2, b"\0\1" + text("a") * (MAX_FILTERS + 1)), Cut.OVERSIZE),
        (packet(0xC1, b""), Cut.MALFORMED),
        (packet(0xC0, b"x"), Cut.OVERSIZE),
        (packet(0xE0, b"x"), Cut.OVERSIZE),
    ],
)
def test_what_it_forbids_has_a_reason(data: bytes, reason: Cut) -> None:
    assert judge(data) is reason


@given(st.integers(0, 255), st.binary(max_size=300))
@example(0x30, b"")
@example(0x82, b"\0\1")
def test_any_bytes_are_judged(first: int, body: bytes) -> None:
    assert judge(packet(first, body)) in (None, *Cut)


@given(st.integers(MAX_MESSAGE_BYTES + 1, 2**28 - 1), st.integers(0, 255))
def test_nothing_beyond_the_largest_message_is_read(length: int, first: int) -> None:
    header = bytes([first]) + bytes(length >> 7 * i & 0x7F | 0x80 * (i < 3) for i in range(4))
    with pytest.raises(ViolationError):
        judge_header(header)


PING = b"\xc0\x00"
PUBLISH = b"\x32\x09\x00\x01t\x00\x07data"


class FakeTransport:
    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class FakeWriter:
    """A stream whose buffer empties, or never does."""

    def __init__(self, *, stuck: bool = False) -> None:
        self.transport = FakeTransport()
        self.written = b""
        self._stuck = stuck

    def is_closing(self) -> bool:
        return self.transport.aborted

    def write(self, data: bytes) -> None:
        self.written += data

    async def drain(self) -> None:
        if self._stuck:
            await asyncio.Event().wait()

    def get_extra_info(self, _name: str) -> tuple[str, int]:
        return ("127.0.0.1", 7)


class Client:
    """A client's streams, and what became of it."""

    def __init__(self, *, stuck: bool = False, silence_s: float | None = None, hold_back_s: float = 0) -> None:
        self.fake = FakeWriter(stuck=stuck)
        self.cuts: list[Cut] = []
        self.sizes: list[int] = []
        self.stream = asyncio.StreamReader()
        self.writer = ClientWriter(
            cast("asyncio.StreamWriter", self.fake), lambda reason, _: self.cuts.append(reason), timeout_s=0.01
        )
        self._hold_back_s = hold_back_s
        self.reader = ClientReader(b"first", self.stream, self.writer, silence_s, self._held_back)

    def _held_back(self, size: int) -> float:
        self.sizes.append(size)
        return self._hold_back_s

    async def cut(self) -> Cut:
        """Read on until the client is cut; return why."""
        assert await self.reader.read(5) == b"first"
        with pytest.raises(ConnectionResetError):
            await self.reader.read(1)
        assert self.fake.transport.aborted
        (reason,) = self.cuts
        return reason


def test_the_guards_connect_comes_first_and_then_the_clients_packets() -> None:
    async def run() -> tuple[bytes, list[int]]:
        client = Client()
        client.stream.feed_data(PING + PUBLISH)
        data = b"".join([await client.reader.read(n) for n in (2, 3, 2, 1, 1, 5, 4)])
        return data, client.sizes

    assert asyncio.run(run()) == (b"first" + PING + PUBLISH, [2, len(PUBLISH)])


def test_nothing_of_a_packet_is_given_before_all_of_it_came() -> None:
    async def run() -> None:
        client = Client()
        await client.reader.read(5)
        client.stream.feed_data(PUBLISH[:-1])
        reading = asyncio.ensure_future(client.reader.read(1))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not reading.done()
        client.stream.feed_data(PUBLISH[-1:])
        assert await reading == PUBLISH[:1]

    asyncio.run(run())


def test_a_client_that_sends_too_much_is_read_later_and_not_cut() -> None:
    async def run() -> None:
        client = Client(hold_back_s=0.02)
        await client.reader.read(5)
        client.stream.feed_data(PING)
        started = asyncio.get_running_loop().time()
        assert await client.reader.read(2) == PING
        assert asyncio.get_running_loop().time() - started >= 0.015
        assert client.cuts == []

    asyncio.run(run())


def test_a_packet_is_a_turn_so_that_others_have_theirs() -> None:
    async def run() -> list[str]:
        turns: list[str] = []

        async def read(name: str) -> None:
            client = Client()
            client.stream.feed_data(PING * 3)
            await client.reader.read(5)
            for _ in range(3):
                await client.reader.read(2)
                turns.append(name)

        await asyncio.gather(read("a"), read("b"))
        return turns

    assert asyncio.run(run()) == ["a", "b"] * 3


@pytest.mark.parametrize("error", [TimeoutError(110, "Connection timed out"), OSError(113, "No route to host")])
def test_a_connection_the_kernel_gave_up_ends_as_a_reset(error: OSError) -> None:
    async def run() -> None:
        client = Client()
        await client.reader.read(5)
        client.stream.set_exception(error)
        await client.reader.read(1)

    with pytest.raises(ConnectionResetError):
        asyncio.run(run())


def test_a_client_silent_beyond_its_keepalive_is_cut() -> None:
    async def run() -> Cut:
        return await Client(silence_s=0.01).cut()

    assert asyncio.run(run()) is Cut.SILENT


def test_a_client_that_announces_a_huge_message_is_cut_before_it_is_read() -> None:
    async def run() -> Cut:
        client = Client()
        client.stream.feed_data(b"\x30\x81\x80\x40")
        return await client.cut()

    assert MAX_MESSAGE_BYTES + 1 == 0x01 + (0x40 << 14)
    assert asyncio.run(run()) is Cut.OVERSIZE


def test_a_client_that_does_not_read_what_it_is_sent_is_cut_and_read_no_more() -> None:
    async def run() -> Cut:
        client = Client(stuck=True)
        client.stream.feed_data(PING * 100)
        client.writer.write(b"message")
        reason = await client.cut()
        client.writer.write(b"later")
        assert client.fake.written == b"message"
        assert client.sizes == []
        return reason

    assert asyncio.run(run()) is Cut.UNREAD


STEPS = st.lists(
    st.tuples(
        st.floats(0, 100, allow_nan=False, allow_subnormal=False).filter(lambda s: s == 0 or s > 1e-3),
        st.integers(1, 200),
    ),
    max_size=60,
)


@given(st.integers(1, 1000), STEPS)
def test_a_client_that_waits_as_told_sends_at_its_rate_in_the_long_run(
    rate: int, steps: list[tuple[float, int]]
) -> None:
    bucket = Bucket(rate, 50, 50, at=0.0)
    now = 0.0
    taken = 0
    for pause_s, amount in steps:
        now += pause_s
        wait_s = bucket.take(amount, now)
        assert 0 <= wait_s <= amount / rate + 1e-6
        now += wait_s
        taken += amount
        # One amount may be overdrawn before it is waited for, so none is ever refused for its size.
        assert taken <= 50 + rate * now + 1e-3


def test_within_rate_and_burst_nobody_waits() -> None:
    allowance = PacketAllowance(10, now=1000.0)
    assert [allowance.take(1, 20, 1000.0) for _ in range(int(10 * BURST_S))] == [0.0] * int(10 * BURST_S)
    assert allowance.take(1, 20, 1000.0) == 0.1
    assert allowance.take(1, 20, 1000.2) == 0.0


def test_bytes_are_bounded_as_packets_are() -> None:
    allowance = PacketAllowance(10, now=0.0)
    burst = int(10 * PACKET_BYTES * BURST_S)
    assert allowance.take(1, burst, 0.0) == 0.0
    assert allowance.take(1, 10 * PACKET_BYTES, 0.0) == 1.0


def test_a_clock_that_does_not_go_on_gives_nothing() -> None:
    bucket = Bucket(10, 10, 10, at=5.0)
    assert bucket.take(10, 5.0) == 0.0
    assert bucket.take(1, 4.0) == 0.1


def test_who_takes_on_without_waiting_is_kept_waiting_no_longer_than_a_burst_takes() -> None:
    allowance = PacketAllowance(10, now=0.0)
    assert max(allowance.take(20, 100, now=0.0) for _ in range(10_000)) == BURST_S
    assert allowance.take(1, 20, now=BURST_S) == 0.1


class Subscriber:
    """Takes messages, and is done with one only on command."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.done: list[asyncio.Future[None]] = []
        self.queue: SubscriberQueue[int] = SubscriberQueue(self._send)

    async def _send(self, message: int) -> None:
        self.taken.append(message)
        waiting = asyncio.get_running_loop().create_future()
        self.done.append(waiting)
        await waiting


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_messages_go_in_their_order_so_many_at_a_time() -> None:
    async def run() -> None:
        subscriber = Subscriber()
        assert all(subscriber.queue.add(n, 1) for n in range(MAX_SENDING + 2))
        await turns()
        assert subscriber.taken == list(range(MAX_SENDING))
        subscriber.done[5].set_result(None)
        await turns()
        assert subscriber.taken == list(range(MAX_SENDING + 1))
        assert len(subscriber.queue) == MAX_SENDING + 1
        subscriber.queue.close()

    asyncio.run(run())


def test_beyond_its_bounds_nothing_is_taken_until_something_is_done() -> None:
    async def run() -> None:
        many, big = Subscriber(), Subscriber()
        assert all(many.queue.add(n, 0) for n in range(MAX_MESSAGES))
        assert not many.queue.add(0, 0)
        assert big.queue.add(0, MAX_BYTES - 10)
        assert not big.queue.add(1, 11)
        assert big.queue.add(2, 10)
        await turns()
        for subscriber in (many, big):
            subscriber.done[0].set_result(None)
        await turns()
        assert many.queue.add(0, 0)
        assert big.queue.add(3, MAX_BYTES - 10)
        assert (many.queue.close(), big.queue.close()) == (MAX_MESSAGES, 2)

    asyncio.run(run())


def test_of_a_subscriber_that_is_gone_nothing_is_left() -> None:
    async def run() -> None:
        subscriber = Subscriber()
        for n in range(MAX_SENDING + 100):
            subscriber.queue.add(n, 1)
        await turns()
        assert subscriber.queue.close() == MAX_SENDING + 100
        await turns()
        assert len(subscriber.queue) == 0
        assert len(subscriber.taken) == MAX_SENDING
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())
