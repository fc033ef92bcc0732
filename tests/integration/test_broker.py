"""The broker with real clients (paho) over real sockets, on a loop of this process."""

import asyncio
import contextlib
import gc
import logging
import queue
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from broker.embedded import EmbeddedBroker, _Connection
from broker.metrics import BrokerMetrics
from broker.streams import ClientReader
from commonwatt.identity.devices import Device, DeviceRole, digest, new_token, save_devices
from commonwatt.protocol.topics import LTE, all_meters_up, meter_down, meter_up
from harness.network.mqtt import PINGREQ_PACKET, RawClient, connect_packet
from harness.network.waiting import eventually

WAIT_S = 30.0
CONNECT_TIMEOUT_S = 2.0
FLOODED_S = 10.0  # a message arrives within this while another device floods; it takes milliseconds on a quiet machine


class Registry:
    """A devices file: gateway r001 and its meters 1 to 20."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tokens: dict[str, str] = {}
        self.devices: list[Device] = []
        self.register("r001", DeviceRole.GATEWAY)
        for meter in range(1, 21):
            self.register(str(meter), DeviceRole.METER)

    def register(self, identity: str, role: DeviceRole) -> None:
        token = self.tokens[identity] = new_token()
        self.devices = [d for d in self.devices if d.identity != identity]
        self.devices.append(Device(identity=identity, role=role, microgrid="r001", token_sha256=digest(token.encode())))
        save_devices(self.path, self.devices)


class Client:
    """A paho client that records its events and never reconnects by itself."""

    def __init__(self, port: int, identity: str, token: str | None) -> None:
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.answered, self.gone = threading.Event(), threading.Event()
        self.return_code: object = None
        self._subacks: queue.Queue[list[bool]] = queue.Queue()
        self.paho = paho.Client(CallbackAPIVersion.VERSION2, identity, reconnect_on_failure=False)
        self.paho.username_pw_set(identity, token)
        self.paho.on_connect = self._on_connect
        self.paho.on_disconnect = lambda *_: self.gone.set()
        self.paho.on_subscribe = lambda _c, _u, _m, codes, _p: self._subacks.put([not c.is_failure for c in codes])
        self.paho.on_message = self._on_message
        self.paho.connect("127.0.0.1", port)
        self.paho.loop_start()

    def _on_connect(self, _client: object, _data: object, _flags: object, code: object, _p: object) -> None:
        self.return_code = str(code)
        self.answered.set()

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        # The broker's own report of its line comes now and then; no device sends it.
        if not message.topic.endswith(f"/{LTE}"):
            self.messages.put((message.topic, bytes(message.payload)))

    def subscribe(self, topic_filter: str) -> bool:
        self.paho.subscribe(topic_filter, 1)
        return self._subacks.get(timeout=WAIT_S) == [True]

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.paho.publish(topic, payload, 1, retain=retain).wait_for_publish(WAIT_S)

    def next(self) -> tuple[str, bytes]:
        return self.messages.get(timeout=WAIT_S)

    def close(self) -> None:
        self.paho.disconnect()
        self.paho.loop_stop()
        self.paho._reset_sockets()  # paho leaves its pair of wake-up sockets to the garbage collector.


class Running:
    """A broker on a loop of its own thread, and its clients."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.metrics = BrokerMetrics()
        self.broker = EmbeddedBroker("127.0.0.1:0", registry.path, self.metrics, connect_timeout_s=CONNECT_TIMEOUT_S)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.clients: list[Client] = []

    def start(self) -> None:
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self.broker.start(), self.loop).result(WAIT_S)
        self.port = int(self.broker.address.rpartition(":")[2])

    def stop(self) -> None:
        for client in self.clients:
            client.close()
        asyncio.run_coroutine_threadsafe(self.broker.stop(), self.loop).result(WAIT_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(WAIT_S)
        self.loop.close()

    def connect(self, identity: str, token: str | None = None) -> Client:
        client = Client(self.port, identity, token or self.registry.tokens[identity])
        self.clients.append(client)
        assert client.answered.wait(WAIT_S)
        return client

    def gateway(self) -> Client:
        gateway = self.connect("r001")
        assert gateway.subscribe(all_meters_up("r001"))
        return gateway

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.value(f"commonwatt_broker_{name}", **labels)

    def raw(self, data: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)
        connection.sendall(data)
        return connection

    def raw_meter(self, identity: str) -> RawClient:
        """Connect a meter by a raw socket, to send packets that paho would not send."""
        return RawClient(self.port, identity, self.registry.tokens[identity])


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "devices.json")


@pytest.fixture
def running(registry: Registry, caplog: pytest.LogCaptureFixture) -> Iterator[Running]:
    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.WARNING)
    running = Running(registry)
    running.start()
    yield running
    running.stop()
    # Errors logged by asyncio here are unawaited tasks or unhandled exceptions.
    assert not [record for record in caplog.records if record.name == "asyncio" and record.levelno >= logging.ERROR]


def test_a_device_with_its_token_connects(running: Running) -> None:
    assert running.connect("1").return_code == "Success"
    assert running.count("connections") == 1
    assert running.count("connects_total") == 1


def test_an_unregistered_device_is_told_that_its_identity_is_unknown(running: Running) -> None:
    assert running.connect("99", "any token").return_code == "Client identifier not valid"
    assert running.count("refused_connects_total", reason="identity") == 1


def test_a_client_of_mqtt_5_is_told_that_its_version_is_not_spoken(running: Running) -> None:
    with running.raw(b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x021x") as connection:
        assert connection.recv(16) == b"\x20\x02\x00\x01"
        assert connection.recv(16) == b""


@pytest.mark.parametrize("filters", [["cw1/r001/+/u/+"], ["cw1/r001/+/u/+", "cw1/r001/+/u/rec"]], ids=["one", "two"])
def test_the_gateway_loses_nothing_while_20_meters_come_and_go(running: Running, filters: list[str]) -> None:
    gateway = running.connect("r001")
    assert all(gateway.subscribe(each) for each in filters)
    sent: queue.Queue[bytes] = queue.Queue()

    def come_and_go(identity: str) -> None:
        for visit in range(5):
            meter = Client(running.port, identity, running.registry.tokens[identity])
            assert meter.answered.wait(WAIT_S)
            meter.subscribe(meter_down("r001", int(identity), "+"))
            payloads = [f"{identity}.{visit}.{n}".encode() for n in range(20)]
            infos = [meter.paho.publish(meter_up("r001", int(identity), "rec"), payload, 1) for payload in payloads]
            for info in infos:
                info.wait_for_publish(WAIT_S)
            meter.close()  # Right after the last PUBACK: amqtt alone would lose most of these.
            for payload in payloads:
                sent.put(payload)

    threads = [threading.Thread(target=come_and_go, args=(str(meter),)) for meter in range(1, 21)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sent.qsize() == 20 * 5 * 20
    eventually(lambda: gateway.messages.qsize() >= sent.qsize() * len(filters))
    assert sorted(payload for _, payload in gateway.messages.queue) == sorted(list(sent.queue) * len(filters))


def test_a_newly_registered_meter_connects_without_a_restart(running: Running) -> None:
    running.registry.register("77", DeviceRole.METER)
    assert running.connect("77").return_code == "Success"


def test_a_damaged_devices_file_keeps_the_known_devices(running: Running) -> None:
    running.registry.path.write_text("{ not json")
    assert running.connect("1").return_code == "Success"
    running.registry.path.unlink()
    assert running.connect("2").return_code == "Success"
    assert running.count("devices_file_errors_total") == 2
    running.registry.register("77", DeviceRole.METER)
    assert running.connect("77").return_code == "Success"


def test_a_device_whose_token_was_replaced_is_cut_off(running: Running) -> None:
    meter = running.connect("1")
    running.registry.register("1", DeviceRole.METER)
    running.connect("2")
    assert meter.gone.wait(WAIT_S)


def test_a_second_connection_of_a_device_replaces_the_first(running: Running) -> None:
    gateway = running.gateway()
    first = running.connect("1")
    assert first.subscribe(meter_down("r001", 1, "+"))
    second = running.connect("1")
    assert first.gone.wait(WAIT_S)
    assert second.subscribe(meter_down("r001", 1, "+"))
    gateway.publish(meter_down("r001", 1, "ack"), b"for you")
    assert second.next()[1] == b"for you"
    second.publish(meter_up("r001", 1, "rec"), b"from me")
    assert gateway.next()[1] == b"from me"
    assert running.count("connections") == 2
    assert running.count("takeovers_total") == 1


def test_a_device_that_floods_the_broker_does_not_stop_the_others(running: Running) -> None:
    gateway, meter = running.gateway(), running.connect("2")
    with running.raw_meter("1") as flood:
        flood.sock.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            while True:  # Pings whose answers are never read.
                flood.send(PINGREQ_PACKET * 50_000)
        started = time.monotonic()
        meter.publish(meter_up("r001", 2, "rec"), b"me too")
        assert gateway.next()[1] == b"me too"
        assert time.monotonic() - started < FLOODED_S


def test_nothing_is_left_of_connections_that_ended(running: Running) -> None:
    tasks = len(asyncio.all_tasks(running.loop))
    gateway = running.gateway()
    for number in range(1, 21):
        client = running.connect(str(number))
        client.subscribe(meter_down("r001", number, "+"))
        gateway.publish(meter_down("r001", number, "ack"), b"for you")
        client.publish(meter_up("r001", number, "rec"), b"from me")
        client.publish("cw1/other", b"not allowed")
        client.close()
    gateway.close()
    eventually(lambda: running.count("connections") == 0)
    eventually(lambda: len(asyncio.all_tasks(running.loop)) <= tasks)
    assert not running.broker.amqtt.sessions
    assert not running.broker.amqtt.subscriptions


def test_many_connections_of_one_device_at_once_leave_one_that_works(running: Running) -> None:
    gateway = running.gateway()
    token = running.registry.tokens["1"]
    crowd = [Client(running.port, "1", token) for _ in range(20)]
    running.clients.extend(crowd)
    eventually(lambda: sum(client.gone.is_set() for client in crowd) == 19)
    (last,) = [client for client in crowd if not client.gone.is_set()]
    assert last.answered.wait(WAIT_S)
    last.publish(meter_up("r001", 1, "rec"), b"I am left")
    assert gateway.next()[1] == b"I am left"
    eventually(lambda: running.count("connections") == 2)


def test_a_device_that_connects_in_a_loop_keeps_no_places_and_fills_no_log(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "broker")
    gateway = running.gateway()
    packet = connect_packet("1", running.registry.tokens["1"])
    with contextlib.ExitStack() as stack:
        # Six times its allowance: most of them are throttled.
        for _ in range(300):
            stack.enter_context(running.raw(packet))
        eventually(lambda: running.count("connects_total") == 301)
        eventually(lambda: len(running.broker._listener.tasks) == 2)
        meter = running.connect("2")
        meter.publish(meter_up("r001", 2, "rec"), b"me too")
        assert gateway.next()[1] == b"me too"
        assert sum(isinstance(each, _Connection) for each in gc.get_objects()) < 10
    assert running.count("held_back_packets_total") > 200
    lines = [record.getMessage() for record in caplog.records if record.name == "broker.embedded"]
    assert not [line for line in lines if "did not end" in line]
    assert len(lines) < 10, lines


@pytest.mark.parametrize(
    "data",
    [
        b"\x30\x08\x00\x04$SYSxx",
        b"\x30\x07\x00\x05cw1/#",
        b"\x30\x02\x00\x00",
        b"\x30\xff\xff\xff\x7f\x00\x01x",
        b"\x36\x05\x00\x01a\x00\x01",
        b"\xf0\x00\x00\x00",
        b"\xff" * 64,
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00",
    ],
    ids=["dollar", "wildcard", "empty", "huge", "qos-3", "reserved", "noise", "second-connect"],
)
def test_odd_packets_of_one_device_harm_no_other(running: Running, data: bytes) -> None:
    gateway = running.gateway()
    with running.raw_meter("1") as odd:
        odd.send(data)
        odd.sock.shutdown(socket.SHUT_WR)
        odd.wait_until_cut()
    meter = running.connect("2")
    meter.publish(meter_up("r001", 2, "rec"), b"all is well")
    assert gateway.next() == (meter_up("r001", 2, "rec"), b"all is well")
    eventually(lambda: running.count("connections") == 2)
    assert running.count("connection_errors_total") == 0


@pytest.mark.parametrize("error", [TimeoutError(110, "Connection timed out"), ValueError("a fault of ours")])
def test_an_error_in_one_devices_stream_harms_no_other(
    running: Running, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    gateway, broken = running.gateway(), running.connect("1")
    read = ClientReader.read

    async def failing(reader: ClientReader, n: int = -1) -> bytes:
        data = await read(reader, n)
        if data == b"break":
            reader._reader.set_exception(error)
            if isinstance(error, ValueError):
                raise error
        return data

    monkeypatch.setattr(ClientReader, "read", failing)
    broken.paho.publish(meter_up("r001", 1, "rec"), b"break", 0)
    assert broken.gone.wait(WAIT_S)
    meter = running.connect("2")
    meter.publish(meter_up("r001", 2, "rec"), b"all is well")
    eventually(lambda: b"all is well" in [payload for _, payload in gateway.messages.queue])
    assert running.connect("1").return_code == "Success"
