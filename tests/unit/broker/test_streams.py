"""What amqtt reads through: limits are kept, and every failure is one that amqtt understands."""

import asyncio
from typing import cast

import pytest

from broker.streams import MAX_MESSAGE_BYTES, ClientReader, ClientWriter


class FakeTransport:
    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class FakeWriter:
    """A stream whose buffer never empties."""

    def __init__(self) -> None:
        self.transport = FakeTransport()
        self.written = b""

    def is_closing(self) -> bool:
        return self.transport.aborted

    def write(self, data: bytes) -> None:
        self.written += data

    async def drain(self) -> None:
        await asyncio.Event().wait()

    def get_extra_info(self, _name: str) -> tuple[str, int]:
        return ("127.0.0.1", 7)


def client_writer(fake: FakeWriter) -> ClientWriter:
    return ClientWriter(cast("asyncio.StreamWriter", fake), timeout_s=0.01)


def test_the_guards_connect_comes_first_and_then_what_the_client_sends() -> None:
    async def run() -> bytes:
        stream = asyncio.StreamReader()
        stream.feed_data(b"rest")
        reader = ClientReader(b"first", stream, client_writer(FakeWriter()), None)
        return await reader.read(2) + await reader.read(3) + await reader.read(4)

    assert asyncio.run(run()) == b"firstrest"


@pytest.mark.parametrize("error", [TimeoutError(110, "Connection timed out"), OSError(113, "No route to host")])
def test_a_connection_the_kernel_gave_up_ends_as_a_reset(error: OSError) -> None:
    async def run() -> None:
        stream = asyncio.StreamReader()
        stream.set_exception(error)
        await ClientReader(b"", stream, client_writer(FakeWriter()), None).read(1)

    with pytest.raises(ConnectionResetError):
        asyncio.run(run())


def test_a_client_silent_beyond_its_keepalive_is_cut() -> None:
    fake = FakeWriter()

    async def run() -> None:
        await ClientReader(b"", asyncio.StreamReader(), client_writer(fake), silence_s=0.01).read(1)

    with pytest.raises(ConnectionResetError):
        asyncio.run(run())
    assert fake.transport.aborted


def test_a_client_that_announces_a_huge_message_is_cut_before_it_is_read() -> None:
    fake = FakeWriter()

    async def run() -> None:
        await ClientReader(b"", asyncio.StreamReader(), client_writer(fake), None).read(MAX_MESSAGE_BYTES + 1)

    with pytest.raises(ConnectionResetError):
        asyncio.run(run())
    assert fake.transport.aborted


def test_a_client_that_does_not_read_what_it_is_sent_is_cut() -> None:
    fake = FakeWriter()

    async def run() -> None:
        writer = client_writer(fake)
        writer.write(b"message")
        with pytest.raises(ConnectionResetError):
            await writer.drain()
        writer.write(b"later")

    asyncio.run(run())
    assert fake.transport.aborted
    assert fake.written == b"message"
