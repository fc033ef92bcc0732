"""What amqtt reads through: limits are kept, and every failure is one that amqtt understands."""

import asyncio
from typing import cast

import pytest

from broker.embedded.packets import MAX_MESSAGE_BYTES, Cut
from broker.embedded.streams import ClientReader, ClientWriter

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
