"""A connection with two addresses: one at a time, the next when one is lost and stays away."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from commonwatt.network import mqtt
from commonwatt.network.mqtt import MqttLink
from harness.network.links import link_of
from harness.network.mqtt_raw import CONNACK, SUBACK
from harness.network.waiting import become, cancelled, free_port


class Broker:
    """Accepts each client, and counts the connections."""

    def __init__(self) -> None:
        self.port = free_port()
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        await reader.read(1000)
        writer.write(bytes([CONNACK, 2, 0, 0]))
        packet = await reader.read(1000)
        writer.write(bytes([SUBACK, 3]) + packet[2:4] + b"\x01")
        await reader.read(1)

    def die(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.close()


def link_to(*addresses: str) -> MqttLink:
    return link_of(addresses)


@asynccontextmanager
async def running(link: MqttLink, *brokers: Broker) -> AsyncIterator[None]:
    task = asyncio.create_task(link.run())
    try:
        yield
    finally:
        await cancelled(task)
        for broker in brokers:
            broker.die()


def played(monkeypatch: pytest.MonkeyPatch, play: Callable[[Broker, Broker], Coroutine[Any, Any, None]]) -> None:
    monkeypatch.setattr(mqtt, "AWAY_S", 0.5)
    monkeypatch.setattr(mqtt, "_LAST_RETRY_S", 0.5)
    asyncio.run(play(Broker(), Broker()))


def test_it_begins_with_the_first_and_goes_to_the_next_when_that_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(first: Broker, second: Broker) -> None:
        await first.start()
        await second.start()
        link = link_to(first.address, second.address)
        async with running(link, first, second):
            await become(lambda: link.connected)
            assert (link.address, second.connections) == (first.address, 0)
            first.die()
            await become(lambda: link.connected and link.address == second.address)
            await first.start()
            second.die()
            await become(lambda: link.connected and link.address == first.address)
            assert (link.connects, first.connections, second.connections) == (3, 2, 1), "no return by itself"

    played(monkeypatch, play)


def test_it_stays_where_a_connection_is_back_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(first: Broker, second: Broker) -> None:
        monkeypatch.setattr(mqtt, "AWAY_S", 60.0)
        await first.start()
        await second.start()
        link = link_to(first.address, second.address)
        async with running(link, first, second):
            await become(lambda: link.connected)
            first.die()
            await become(lambda: link.complaint)
            await first.start()
            await become(lambda: link.connected)
            assert (link.address, second.connections) == (first.address, 0)

    played(monkeypatch, play)


def test_it_goes_to_the_next_at_once_if_its_owner_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(first: Broker, second: Broker) -> None:
        await first.start()
        await second.start()
        link = link_to(first.address, second.address)
        async with running(link, first, second):
            await become(lambda: link.connected)
            link.restart("half_open")
            await become(lambda: link.connects == 2)
            assert link.address == first.address, "it is there again"
            link.restart("silent", move=True)
            await become(lambda: link.connects == 3)
            assert (link.address, dict(link.restarts)) == (second.address, {"half_open": 1, "silent": 1})

    played(monkeypatch, play)


def test_with_both_away_it_tries_one_after_the_other_and_with_one_address_only_that(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(first: Broker, second: Broker) -> None:
        link, alone = link_to(first.address, second.address), link_to(first.address)
        async with running(link), running(alone):
            await become(lambda: caplog.text.count("next") >= 2)
            assert f"trying {first.address} next" in caplog.text
            assert alone.address == first.address
            await second.start()
            await become(lambda: link.connected)
            assert not alone.connected
            second.die()

    played(monkeypatch, play)
