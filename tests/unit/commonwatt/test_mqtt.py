"""MQTT connections: silent ones, two addresses, and messages that are too long."""

import asyncio
import random
import socket
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

import gateway.links
import utility.assembly.head_ends
from commonwatt.network import mqtt
from commonwatt.network.mqtt import Liveness, MqttLink
from commonwatt.network.packets import MAX_PACKET_BYTES, BoundedClient, Oversize
from harness.network.mqtt import CONNACK, PUBACK, SUBACK, link_of, packet, publish_packet
from harness.network.waiting import become, cancelled, free_port
from harness.surroundings.gateway import World, registered


def test_a_connection_over_which_nothing_was_expected_is_left_alone() -> None:
    liveness = Liveness(30, 3600)
    assert not liveness.too_long(1e9)


def test_an_answer_that_does_not_come_is_noticed_once_and_then_later_and_later() -> None:
    liveness = Liveness(30, 100)
    now = 0.0
    waited = []
    for _ in range(4):
        liveness.expected(now)
        liveness.expected(now + 1)  # another question does not begin the wait anew
        begun = now
        while not liveness.too_long(now):
            now += 1
        waited.append(now - begun)
        assert not liveness.too_long(now)
    assert waited == [30, 60, 100, 100]
    liveness.heard(now)
    liveness.expected(now)
    assert liveness.too_long(now + 30)


def test_whatever_comes_ends_the_wait() -> None:
    liveness = Liveness(30, 3600)
    liveness.expected(0)
    liveness.heard(29)
    assert not liveness.too_long(60)
    assert liveness.quiet_s(60) == 31
    assert Liveness(30, 3600).quiet_s(0) == pytest.approx(float("inf"))


def test_nothing_is_expected_of_a_connection_that_is_gone() -> None:
    liveness = Liveness(30, 3600)
    liveness.expected(0)
    liveness.gone()
    assert not liveness.too_long(60)


def looks(deaf_at: float, watch_s: float, until: float) -> tuple[list[float], list[float]]:
    """Return when a gateway with nothing to send says something, and when it and the utility connect again.

    The utility answers at once, until the gateway's connection passes nothing on any more; so does the utility's then.
    """
    said, again = [], []
    at_gateway = Liveness(gateway.links.LINK_SILENT_S, gateway.links.LONGEST_SILENCE_S)
    at_utility = Liveness(utility.assembly.head_ends.LINK_SILENT_S, utility.assembly.head_ends.LONGEST_SILENCE_S)
    at_gateway.heard(0)
    for look in range(1, int(until / watch_s)):
        now = look * watch_s
        if at_gateway.too_long(now):
            again.append(now)
        elif at_gateway.quiet_s(now) >= gateway.links.HEAD_END_QUIET_S:
            said.append(now)
            at_gateway.expected(now)
            if now < deaf_at:
                at_utility.heard(now)
                at_gateway.heard(now)
        at_utility.expected(now)
        if at_utility.too_long(now):
            again.append(now)
    return said, again


@pytest.mark.parametrize("late_s", [0.0, 1.0, 4.9])
def test_a_deaf_connection_is_noticed_soon_at_both_ends_and_a_quiet_night_is_no_alarm(late_s: float) -> None:
    watch_s = max(gateway.links.WATCH_EVERY_S, utility.assembly.head_ends.WATCH_EVERY_S)
    said, again = looks(8 * 3600.0, watch_s, 8 * 3600.0)
    assert again == []
    assert len(said) > 8 * 60
    deaf_at = 600 + late_s
    _, again = looks(deaf_at, watch_s, 671)
    assert len(again) >= 2
    assert all(now - deaf_at <= 70 for now in again[:2])


def reconnections(world: World, answering: int, until_s: int) -> int:
    """Return how often a gateway connects to its meters again if only one of them answers, and only when it is asked.

    As ``gateway.links`` watches its connection: every 5 s.
    """
    liveness, count, begun = Liveness(gateway.links.LINK_SILENT_S, gateway.links.LONGEST_SILENCE_S), 0, world.now
    liveness.heard(0)
    while (now := world.now - begun) < until_s:
        world.now += int(gateway.links.WATCH_EVERY_S)
        if liveness.too_long(now):
            count += 1
        elif liveness.quiet_s(now) >= gateway.links.QUIET_S:
            sent = world.do(world.core.probe("meters", world.now))
            liveness.expected(now)
            if any(f"/{answering}/" in message.topic for message in sent):
                world.introduce(answering, cmd="get")
                liveness.heard(now)
    return count


@pytest.mark.parametrize("answering", [1, 17, 30])
def test_a_gateway_of_many_meters_of_which_one_answers_does_not_connect_again(tmp_path: Path, answering: int) -> None:
    """An adapter that is idle, beside meters that are not installed yet, for nine minutes."""
    world = World(tmp_path / "gateway.db")
    world.meters = {meter: registered(meter) for meter in range(1, 31)}
    world.new_core()
    world.introduce(answering)
    assert reconnections(world, answering, 540) == 0


def test_who_is_late_itself_waits_anew() -> None:
    liveness = Liveness(30, 3600)
    liveness.put_off(0)
    assert not liveness.too_long(100), "it expected nothing"
    liveness.expected(100)
    liveness.put_off(125)
    assert not liveness.too_long(154)
    assert liveness.too_long(155)


def link(tls: Any = None) -> MqttLink:
    return MqttLink(
        address="127.0.0.1:1",
        identity="10001",
        token="",
        subscribe="own/+",
        on_message=lambda *_: None,
        on_connect=lambda: None,
        rng=random.Random(1),
        tls=tls,
        keepalive_s=900,
    )


def test_a_silent_connection_rests_until_its_ping_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 5_000.0)
    silent = link()
    client: Any = silent._new_client()
    client._last_msg_out, client._last_bytes_received = 4_990.0, 4_500.0
    assert silent._quiet_s(client) == 400, "nothing was received for longest"
    client._last_msg_out = 4_200.0
    assert silent._quiet_s(client) == 100
    client._last_msg_out = 4_000.0
    assert silent._quiet_s(client) == pytest.approx(0.05), "at once, but never in a busy loop"


def test_the_files_of_a_silent_connection_with_tls_are_looked_at_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 5_000.0)
    client: Any = link()._new_client()
    client._last_msg_out = client._last_bytes_received = 5_000.0
    assert link(tls=object())._quiet_s(client) == 10


def test_a_connection_has_no_port_of_its_own_before_it_has_a_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("socket.create_connection", lambda _, **words: asked.append(words))
    client: Any = link()._new_client()
    client._create_socket_connection()
    assert "source_address" not in asked[0], "all connections of a machine would share 28,000 ports"


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


ROOT = Path(__file__).parents[3]

LONG = 24 * 1024 * 1024


class OtherEnd:
    """The other end of a client's connection: it sends what a test says, and keeps what comes."""

    def __init__(self, protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv311) -> None:
        self.client = BoundedClient(Oversize("c"), CallbackAPIVersion.VERSION2, "c", protocol=protocol)
        self.taken: list[tuple[str, int]] = []
        self.client.on_message = lambda _, __, message: self.taken.append((message.topic, len(message.payload)))
        own, self.sock = socket.socketpair()
        self.client._create_socket_connection = lambda: own  # type: ignore[method-assign]
        self.client.connect("broker")
        self.sock.recv(1000)

    def send(self, *packets: bytes) -> int:
        """Send packets, and let the client read them; return the most bytes that it took meanwhile."""
        data = b"".join(packets)
        sending = threading.Thread(target=self.sock.sendall, args=(data,))
        tracemalloc.start()
        sending.start()
        while sending.is_alive() or self.waits():
            assert self.client.loop_read() in (paho.MQTT_ERR_SUCCESS, paho.MQTT_ERR_AGAIN)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    def waits(self) -> bool:
        sock = self.client.socket()
        assert isinstance(sock, socket.socket)
        try:
            return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False


@pytest.fixture
def broker() -> Iterator[OtherEnd]:
    made = OtherEnd()
    made.send(packet(CONNACK, b"\0\0"))
    yield made
    made.client.socket().close()  # type: ignore[union-attr]
    made.sock.close()


def test_a_long_message_is_skipped_acknowledged_and_named_and_the_next_one_is_read(
    broker: OtherEnd, caplog: pytest.LogCaptureFixture
) -> None:
    long = publish_packet("homeassistant/status", b"x" * LONG, 77)
    peak = broker.send(long, publish_packet("homeassistant/status", b"online", 78))
    assert broker.taken == [("homeassistant/status", 6)]
    assert peak < MAX_PACKET_BYTES, "it is not kept"
    assert broker.client.oversize.count == 1
    assert "'homeassistant/status'" in caplog.text
    assert packet(PUBACK, (77).to_bytes(2)) in broker.sock.recv(1000)


def test_the_longest_that_is_read_comes_whole(broker: OtherEnd) -> None:
    head = 2 + len("t") + 2
    broker.send(publish_packet("t", b"x" * (MAX_PACKET_BYTES - head), 5))
    broker.send(publish_packet("t", b"x" * (MAX_PACKET_BYTES - head + 1), 6))
    broker.send(publish_packet("t", b"x" * LONG))
    assert broker.taken == [("t", MAX_PACKET_BYTES - head)]
    assert broker.client.oversize.count == 2


def test_a_broker_that_answers_with_a_long_packet_of_another_kind_is_left() -> None:
    broker = OtherEnd()
    sending = threading.Thread(target=broker.sock.sendall, args=(packet(CONNACK, b"\0" * 2 * MAX_PACKET_BYTES),))
    sending.start()
    answer, until = paho.MQTT_ERR_AGAIN, time.monotonic() + 60
    while answer in (paho.MQTT_ERR_SUCCESS, paho.MQTT_ERR_AGAIN) and time.monotonic() < until:
        answer = broker.client.loop_read()
    assert answer == paho.MQTT_ERR_PROTOCOL
    broker.sock.close()
    sending.join()


def test_every_client_of_ours_bounds_what_it_reads() -> None:
    rooms = [ROOT / name for name in ("adapters", "commonwatt", "gateway", "meter_sim", "utility")]
    sources = {path: path.read_text() for room in rooms for path in room.rglob("*.py")}
    assert [str(path) for path, text in sources.items() if "= paho.Client(" in text] == []
    assert sum("= BoundedClient(" in text for text in sources.values()) >= 3
