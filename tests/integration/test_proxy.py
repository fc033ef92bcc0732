"""The tests' own proxy: a client or a server observes each of its faults."""

import gc
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from commonwatt.identity.devices import load_tokens
from commonwatt.protocol.topics import meter_down, meter_up
from harness.network.proxy import Fate, Message, Proxy, Way, chance
from harness.network.waiting import eventually
from harness.real.site import Site
from tests.integration.test_broker import Client

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 1\n'
WAIT_S = 30.0


class Echo:
    """A server that echoes its input, and sends a farewell when its client has shut down."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self.ends: list[str] = []
        self.heard = b""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65_536):
                    self.heard += data
                    connection.sendall(data)
                connection.sendall(b"bye")
                self.ends.append("end")
            except OSError:
                self.ends.append("reset")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.address) as it:
        yield it


def connect(proxy: Proxy) -> socket.socket:
    host, _, port = proxy.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=WAIT_S)


@pytest.mark.filterwarnings("error")
def test_a_connection_that_came_just_before_the_port_closed_is_ended(proxy: Proxy) -> None:
    """Its socket stayed open: a ResourceWarning in whichever test ran when it was collected."""
    held = threading.Event()
    proxy._loop.call_soon_threadsafe(held.wait, WAIT_S)
    refusing = threading.Thread(target=proxy.refuse)
    with connect(proxy) as client:
        refusing.start()
        eventually(lambda: len(proxy._loop._ready) > 0, WAIT_S)  # type: ignore[attr-defined]
        held.set()
        refusing.join()
        proxy.cut()
        gc.collect()
        client.settimeout(WAIT_S)
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""


def say(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    heard = b""
    while len(heard) < len(data):
        heard += client.recv(65_536)
    return heard


def test_what_is_no_mqtt_passes_as_it_is_and_ends_as_it_ends(proxy: Proxy, echo: Echo) -> None:
    content = bytes(range(256)) * 1000
    with connect(proxy) as client:
        threading.Thread(target=client.sendall, args=(content,)).start()
        heard = b""
        while len(heard) < len(content):
            heard += client.recv(65_536)
        assert heard == content
        client.shutdown(socket.SHUT_WR)
        assert client.recv(16) == b"bye"
        assert client.recv(16) == b""
    eventually(lambda: proxy.open_connections == 0)
    assert echo.ends == ["end"]
    assert proxy.passed == {Way.UP: len(content), Way.DOWN: len(content) + 3}


def test_delay_and_throttle_take_their_time(proxy: Proxy) -> None:
    proxy.delay_s = 0.1
    with connect(proxy) as client:
        started = time.monotonic()
        assert say(client, b"late") == b"late"
        assert time.monotonic() - started >= 0.2
        proxy.delay_s, proxy.bytes_per_s = 0.0, 5000
        started = time.monotonic()
        assert say(client, bytes(500)) == bytes(500)
        assert time.monotonic() - started >= 0.2


def test_a_cut_is_a_reset_at_both_ends(proxy: Proxy, echo: Echo) -> None:
    with connect(proxy) as client:
        assert say(client, b"hello") == b"hello"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(16)
    eventually(lambda: echo.ends == ["reset"])
    with connect(proxy) as client:
        assert say(client, b"again") == b"again"


def test_a_client_is_reset_when_the_proxy_ends_before_the_server_answers() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent, socket.create_connection(silent.getsockname()):
        # The queue of the server, which accepts nothing, is full: another connection to it waits.
        with Proxy(silent.getsockname()) as proxy:
            client = connect(proxy)
            eventually(lambda: proxy.connections == 1)
        with client, pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_half_closed_connection_goes_on_the_other_way(proxy: Proxy, echo: Echo) -> None:
    with connect(proxy) as client:
        assert say(client, b"hello") == b"hello"
        proxy.half_close(Way.UP)
        assert client.recv(16) == b"bye"
    assert echo.heard == b"hello"


def test_in_the_dark_nothing_passes_not_even_an_end_and_all_of_it_comes_with_the_light(
    proxy: Proxy, echo: Echo
) -> None:
    with connect(proxy) as client, connect(proxy) as other:
        assert say(client, b"hello") == b"hello"
        assert say(other, b"hello") == b"hello"
        proxy.darken()
        client.sendall(b"anybody")
        client.shutdown(socket.SHUT_WR)
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(16)
        with connect(proxy) as late:
            late.settimeout(0.1)
            late.sendall(b"knock")
            with pytest.raises(TimeoutError):
                late.recv(16)
        assert echo.heard == b"hellohello"
        assert echo.ends == []
        proxy.heal()
        client.settimeout(WAIT_S)
        assert client.recv(7, socket.MSG_WAITALL) == b"anybody"
        assert say(other, b"good") == b"good"


def test_one_way_can_be_dark_alone(proxy: Proxy, echo: Echo) -> None:
    with connect(proxy) as client:
        proxy.darken(Way.DOWN)
        client.sendall(b"hello")
        eventually(lambda: echo.heard == b"hello")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(16)
        proxy.heal()
        client.settimeout(WAIT_S)
        assert client.recv(16) == b"hello"


def test_a_refusing_port_is_closed_and_comes_back_as_the_same(proxy: Proxy) -> None:
    with connect(proxy) as client:
        assert say(client, b"hello") == b"hello"
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        assert say(client, b"still") == b"still"
        proxy.listen()
        with connect(proxy) as another:
            assert say(another, b"hello") == b"hello"


class Bench:
    """A meter behind a proxy, and its gateway, at a real broker."""

    def __init__(self, site: Site) -> None:
        self.proxy = site.proxy("r001 meters", "broker")
        folder = site.folder / "r001"
        port = int(self.proxy.address.rpartition(":")[2])
        self.meter = Client(port, "10001", load_tokens(folder / "meter-tokens.json")["10001"])
        self.gateway = Client(
            site.address("r001 broker")[1], "r001", load_tokens(folder / "gateway-tokens.json")["r001"]
        )
        for client, topics in ((self.meter, meter_down("r001", 10001, "+")), (self.gateway, "cw1/r001/+/u/+")):
            assert client.answered.wait(WAIT_S)
            assert client.subscribe(topics)

    def close(self) -> None:
        self.meter.close()
        self.gateway.close()

    def say(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.meter.publish(meter_up("r001", 10001, "out"), payload)

    def heard(self, count: int) -> list[bytes]:
        return [self.gateway.next()[1] for _ in range(count)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Site(tmp_path / "site", TOWN) as site:
        site.start("r001 broker")
        it = Bench(site)
        yield it
        it.close()


def test_single_messages_are_dropped_doubled_swapped_held_and_the_connection_lives_on(bench: Bench) -> None:
    fates = {b"lost": Fate.DROP, b"twin": Fate.TWICE, b"first": Fate.SWAP, b"old": Fate.HOLD}
    seen: list[Message] = []

    def judge(message: Message) -> Fate:
        seen.append(message)
        return fates.get(message.payload, Fate.PASS)

    bench.proxy.judge = judge
    bench.say(b"lost", b"twin", b"first", b"second", b"old", b"last")
    assert bench.heard(5) == [b"twin", b"twin", b"second", b"first", b"last"]
    assert bench.proxy.held == 1
    assert bench.proxy.release() == 1
    assert bench.heard(1) == [b"old"]
    assert bench.proxy.judged == {
        Fate.DROP: 1,
        Fate.TWICE: 1,
        Fate.SWAP: 1,
        Fate.HOLD: 1,
        Fate.PASS: 2,
    }
    assert seen[0] == Message(Way.UP, meter_up("r001", 10001, "out"), b"lost")
    assert seen[0].leaf == "out"
    bench.gateway.publish(meter_down("r001", 10001, "ack"), b"lost")
    bench.gateway.publish(meter_down("r001", 10001, "ack"), b"kept")
    assert bench.meter.next()[1] == b"kept"
    assert seen[-1].way is Way.DOWN
    assert bench.proxy.connections == 1
    assert bench.gateway.messages.empty()


def test_chance_is_the_same_for_the_same_seed_and_leaves_other_topics_alone() -> None:
    messages = [Message(Way.UP, f"cw1/r001/1/u/{leaf}", b"") for leaf in ("rec", "out") * 500]
    shares = {Fate.DROP: 0.3, Fate.TWICE: 0.2}
    judge, again = chance(7, shares, ["rec"]), chance(7, shares, ["rec"])
    fates = [judge(message) for message in messages]
    assert fates == [again(message) for message in messages]
    assert set(fates[1::2]) == {Fate.PASS}
    assert 120 <= fates.count(Fate.DROP) <= 180
    assert 70 <= fates.count(Fate.TWICE) <= 130
