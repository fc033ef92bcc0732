"""The MQTT link of all parts, at a real broker that stops and starts."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from commonwatt.identity.devices import load_tokens
from commonwatt.model.effects import Publish
from commonwatt.network import mqtt
from commonwatt.network.mqtt import MqttLink
from harness.network.mqtt import link_of
from harness.network.waiting import become, cancelled, free_port
from harness.real.site import Site

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 1\n'

ACCEPTED = b"\x20\x02\x00\x00"
NOT_AUTHORIZED = b"\x20\x02\x00\x05"  # a broker's answers to CONNECT


class Listener:
    """A meter and its gateway at the broker of a site."""

    def __init__(self, site: Site) -> None:
        self.received: list[bytes] = []
        address = "{}:{}".format(*site.address("r001 broker"))
        folder = site.folder / "r001"

        def link(identity: str, file: str, subscribe: str) -> MqttLink:
            return link_of(address, identity, load_tokens(folder / file)[identity], subscribe, on_message=self.hear)

        self.meter = link("10001", "meter-tokens.json", "cw1/r001/10001/d/+")
        self.gateway = link("r001", "gateway-tokens.json", "cw1/r001/+/u/+")

    def hear(self, topic: str, payload: bytes) -> None:
        if payload == b"poison":
            raise ValueError(topic)
        self.received.append(payload)

    def says(self, payload: bytes) -> bool:
        return self.meter.publish(Publish("cw1/r001/10001/u/out", payload))


async def heard(listener: Listener, payload: bytes) -> None:
    """Publish a message again until it is received, as the parts do."""
    async with asyncio.timeout(30):
        while payload not in listener.received:
            listener.says(payload)
            await asyncio.sleep(0.1)


def test_a_link_that_is_lost_while_it_is_told_to_end_ends() -> None:
    class Alive(paho.Client):
        def loop_misc(self) -> MQTTErrorCode:
            return paho.MQTT_ERR_SUCCESS

    async def play() -> None:
        link = link_of("127.0.0.1:1", "1", subscribe="")
        watching = asyncio.create_task(link._watch(Alive(CallbackAPIVersion.VERSION2)))
        await asyncio.sleep(0.01)
        link._lost.set()
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching

    asyncio.run(play())


def test_a_link_subscribes_to_a_filter_that_is_added_now_and_at_each_connection() -> None:
    port = free_port()
    link = link_of(f"127.0.0.1:{port}", token="secret")
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(ACCEPTED)
        while packet := await reader.read(1000):
            asked.append(packet)
        writer.close()

    async def packet(*filters: bytes) -> None:
        await become(lambda: asked and all(one in asked[-1] for one in filters))

    async def play() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", port):
            link.subscribe("other/+")
            running = asyncio.create_task(link.run())
            await packet(b"own/+", b"other/+")
            link.subscribe("third/+")
            await packet(b"third/+")
            link.restart("for the test")
            await packet(b"own/+", b"other/+", b"third/+")
            await cancelled(running)

    asyncio.run(play())


def test_why_there_is_no_connection_is_logged_once_for_each_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mqtt, "_FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(mqtt, "_LAST_RETRY_S", 0.01)
    caplog.set_level(logging.INFO, mqtt.log.name)
    port = free_port()
    attempts: list[str] = []
    link = link_of(f"127.0.0.1:{port}", token="secret", subscribe="#")
    make = link._new_client

    def begin() -> paho.Client:
        attempts.append(link.complaint)
        return make()

    monkeypatch.setattr(link, "_new_client", begin)

    async def fails(reason: str) -> None:
        before = len(attempts)
        await become(lambda: sum(reason in told for told in attempts[before:]) >= 3)

    async def behind_the_port(answer: bytes, scene: Callable[[], Awaitable[None]]) -> None:
        played = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1000)
            writer.write(answer)
            if answer == ACCEPTED:
                await played.wait()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", port):
            await scene()
            played.set()

    async def play() -> None:
        running = asyncio.create_task(link.run())
        await fails("Connection refused")
        await behind_the_port(b"", partial(fails, "without an answer"))
        await fails("Connection refused")
        await behind_the_port(NOT_AUTHORIZED, partial(fails, "Not authorized"))
        await behind_the_port(ACCEPTED, partial(become, lambda: link.connected and not link.complaint))
        await fails("Connection refused")
        await cancelled(running)

    asyncio.run(play())
    # The end of a server may reset a connection that it has not accepted yet.
    said = [text for record in caplog.records if "reset by peer" not in (text := record.getMessage())]
    assert [text.replace(f"127.0.0.1:{port}", "X") for text in said] == [
        "r001: no connection to X: [Errno 111] Connection refused",
        "r001: no connection to X: the broker ended it without an answer; its log says why",
        "r001: no connection to X: the broker refused it: Not authorized; its log says why",
        "r001: connected to X",
        "r001: no connection to X: [Errno 111] Connection refused",
    ]


def test_a_link_survives_its_broker_and_its_listener(tmp_path: Path) -> None:
    async def play(site: Site, listener: Listener) -> None:
        tasks = [asyncio.create_task(link.run()) for link in (listener.meter, listener.gateway)]
        assert not listener.says(b"while offline")
        assert listener.meter.dropped == 1
        await asyncio.to_thread(site.start, "r001 broker")
        await heard(listener, b"first")
        assert b"while offline" not in listener.received, "unsent messages must not be sent later"
        listener.says(b"poison")
        await become(lambda: listener.gateway.failures == 1)
        await heard(listener, b"second")
        await asyncio.to_thread(site.kill, "r001 broker")
        await become(lambda: not listener.meter.connected and not listener.gateway.connected)
        await asyncio.to_thread(site.start, "r001 broker")
        await heard(listener, b"third")
        listener.meter.pause()
        await become(lambda: not listener.meter.connected)
        listener.meter.resume()
        await heard(listener, b"fourth")
        await cancelled(*tasks)

    with Site(tmp_path / "site", TOWN, speed=1) as site:
        asyncio.run(play(site, Listener(site)))


def test_a_connection_over_which_something_is_said_asks_for_no_sign_of_life(tmp_path: Path) -> None:
    async def play(listener: Listener) -> None:
        task = asyncio.create_task(listener.meter.run())
        await become(lambda: listener.meter.connected)
        client = listener.meter._client
        assert client is not None
        asked: list[bool] = []
        client._send_pingreq = lambda: asked.append(True)  # type: ignore[method-assign,assignment,return-value]
        client._last_msg_out -= 2 * mqtt.KEEPALIVE_S
        assert listener.says(b"something")
        client._check_keepalive()
        assert not asked
        client._last_msg_out -= 2 * mqtt.KEEPALIVE_S
        client._check_keepalive()
        assert asked, "there was no traffic for long"
        await cancelled(task)

    with Site(tmp_path / "site", TOWN) as site:
        site.start("r001 broker")
        asyncio.run(play(Listener(site)))
