"""A message that is too long is skipped while it comes, is acknowledged and named, and takes no memory of its own."""

import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from commonwatt.network.packets import MAX_PACKET_BYTES, BoundedClient, Oversize
from harness.network.mqtt_raw import CONNACK, PUBACK, packet, publish_packet

ROOT = Path(__file__).parents[3]

LONG = 24 * 1024 * 1024


class Broker:
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
def broker() -> Iterator[Broker]:
    made = Broker()
    made.send(packet(CONNACK, b"\0\0"))
    yield made
    made.client.socket().close()  # type: ignore[union-attr]
    made.sock.close()


def test_a_long_message_is_skipped_acknowledged_and_named_and_the_next_one_is_read(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    long = publish_packet("homeassistant/status", b"x" * LONG, 77)
    peak = broker.send(long, publish_packet("homeassistant/status", b"online", 78))
    assert broker.taken == [("homeassistant/status", 6)]
    assert peak < MAX_PACKET_BYTES, "it is not kept"
    assert broker.client.oversize.count == 1
    assert "'homeassistant/status'" in caplog.text
    assert packet(PUBACK, (77).to_bytes(2)) in broker.sock.recv(1000)


def test_the_longest_that_is_read_comes_whole(broker: Broker) -> None:
    head = 2 + len("t") + 2
    broker.send(publish_packet("t", b"x" * (MAX_PACKET_BYTES - head), 5))
    broker.send(publish_packet("t", b"x" * (MAX_PACKET_BYTES - head + 1), 6))
    broker.send(publish_packet("t", b"x" * LONG))
    assert broker.taken == [("t", MAX_PACKET_BYTES - head)]
    assert broker.client.oversize.count == 2


def test_a_broker_that_answers_with_a_long_packet_of_another_kind_is_left() -> None:
    broker = Broker()
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
