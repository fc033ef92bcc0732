"""The connection to the foreign meters' broker on a real Mosquitto: what the broker sends again, and how it says so."""

import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import paho.mqtt.publish as publish
import pytest

from adapters.doctor import DOCTOR
from adapters.messages import Arrived, Handled, messages_in
from adapters.source import Source
from commonwatt.config.adapter import AdapterSettings, AdapterSource
from commonwatt.config.files import load_settings
from commonwatt.doctor.running import Running
from commonwatt.identity.certificates import Purpose
from commonwatt.network.tls import server_context, trust
from harness.care.certificates import authority, certificate
from harness.network.waiting import eventually, free_ports
from harness.real import brokers, forks

DISCOVERIES = Path(__file__).parents[1] / "unit" / "adapters" / "discoveries"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("mosquitto")
    (port,) = free_ports(1)
    run = brokers.open_to_all(folder / "mosquitto", "127.0.0.1", port)
    with brokers.Mosquitto(run, ("127.0.0.1", port), folder / "log"):
        yield port


class Start:
    """One start of an adapter, until it is killed: from its connection to the messages that it takes."""

    def __init__(self, port: int, mqtt: str, name: str = "") -> None:
        self.source = Source(
            settings=AdapterSource.model_validate({"address": f"127.0.0.1:{port}", "mqtt": mqtt}),
            client_id=f"adapter-{mqtt}{name}",
            filters=[f"{mqtt}{name}/#"],
            now=lambda: 0.0,
            wake=lambda: None,
        )
        self.source.start()
        eventually(lambda: self.source.connected)

    def take(self, count: int) -> list[Arrived]:
        """Return the next messages of QoS 1."""
        taken: list[Arrived] = []

        def complete() -> bool:
            taken.extend(message for message in self.source.take(100) if message.qos)
            return len(taken) >= count

        eventually(complete)
        return taken


@pytest.mark.parametrize("mqtt", ["3.1.1", "5"])
def test_a_message_without_acknowledgement_comes_again_with_dup_and_its_packet_id(port: int, mqtt: str) -> None:
    def say(qos: int, retain: bool = False) -> None:
        publish.single(f"{mqtt}/pulses", "20", qos, retain, hostname="127.0.0.1", port=port)

    first = Start(port, mqtt)
    assert first.source.sessions == 1

    def subscribed() -> bool:
        say(0)
        return first.source.waiting > 0

    eventually(subscribed)
    for qos in (1, 2):
        say(qos)
    committed = first.take(2)
    handled = Handled()
    assert not any(handled.take(message) for message in committed)
    first.source.stop()  # Killed before it acknowledged them.
    say(1)

    second = Start(port, mqtt)
    assert second.source.sessions == 0, "the broker has kept the session"
    handled = Handled(handled.pack())
    came = second.take(3)
    assert [message.number for message in came[:2]] == [message.number for message in committed]
    assert [message.dup for message in came] == [True, True, False]
    assert [handled.take(message) for message in came] == [True, True, False]
    second.source.acknowledge(came)
    say(1)
    assert [handled.take(message) for message in second.take(1)] == [False]
    second.source.stop()


@pytest.mark.parametrize("mqtt", ["3.1.1", "5"])
def test_a_message_that_is_too_long_stops_no_adapter_and_comes_no_more(port: int, mqtt: str) -> None:
    """A broker of MQTT 5 drops it; with 3.1.1 it is skipped, acknowledged and named."""
    topic = f"{mqtt}-long/meter"
    one = Start(port, mqtt, "-long")
    publish.single(topic, b"x" * 20_000_000, 1, hostname="127.0.0.1", port=port)
    publish.single(topic, "after it", 1, hostname="127.0.0.1", port=port)
    came = one.take(1)
    assert [message.payload for message in came] == [b"after it"]
    assert one.source.oversize.count == (0 if mqtt == "5" else 1)
    one.source.acknowledge(came)
    one.source.stop()
    again = Start(port, mqtt, "-long")
    publish.single(topic, "later", 1, hostname="127.0.0.1", port=port)
    assert [message.payload for message in again.take(1)] == [b"later"]
    assert again.source.oversize.count == 0
    again.source.stop()


@pytest.mark.parametrize("mqtt", ["3.1.1", "5"])
def test_a_refused_login_keeps_its_reason_for_status_and_doctor(tmp_path: Path, mqtt: str) -> None:
    (port,) = free_ports(1)
    run = brokers.open_to_all(tmp_path / "mosquitto", "127.0.0.1", port)
    file = tmp_path / "mosquitto" / "mosquitto.conf"
    file.write_text(file.read_text().replace("allow_anonymous true", "allow_anonymous false"))
    settings = AdapterSettings.model_validate(
        {"microgrid": "r001", "source": {"address": f"127.0.0.1:{port}", "mqtt": mqtt, "user": "ha"}}
    )
    ended: list[str] = []

    class Watched(Source):
        def _disconnected(self, *given: object) -> None:
            super()._disconnected(*given)  # type: ignore[arg-type]
            ended.append(self.complaint)

    with brokers.Mosquitto(run, ("127.0.0.1", port), tmp_path / "log"):
        source = Watched(settings=settings.source[0], client_id="a", filters=["#"], now=lambda: 0.0, wake=lambda: None)
        source.start()
        eventually(lambda: bool(ended))
        source.stop()
        running = Running(part="adapter", config=Path("adapter.toml"), answer=None, failure="", runs=False)
        (check,) = [one for one in DOCTOR.checks(settings, running) if one.name == "source"]
        found = list(check.find())[-1]
    assert "uthori" in ended[0]
    assert "no connection of ha to" in found.found
    assert "source.user and source.password" in found.remedy


def test_a_renewed_certificate_is_shown_at_the_next_connection(tmp_path: Path) -> None:
    site = authority(tmp_path / "out")
    broker, own = certificate(site, Purpose.BROKER, "foreign"), certificate(site, Purpose.DEVICE, "r001")
    context = server_context(broker)
    trust(context, own.with_name("ca.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    shown: list[int] = []

    def end_each_connection(listening: socket.socket) -> None:
        with suppress(OSError):  # The end of the test closes it.
            while True:
                connection, _ = listening.accept()
                with suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
                    shown.append(int(str((secured.getpeercert() or {})["serialNumber"]), 16))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=end_each_connection, args=(listening,), daemon=True).start()
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        source = Source(
            settings=AdapterSource(address=address, ca=own.with_name("ca.pem"), certificate=own),
            client_id="adapter",
            filters=["#"],
            now=lambda: 0.0,
            wake=lambda: None,
        )
        source.start()
        eventually(lambda: shown)
        certificate(site, Purpose.DEVICE, "r001")
        eventually(lambda: shown[-1] == site.issued[-1].serial)
        own.write_text("half a certificate")
        count = len(shown)
        eventually(lambda: len(shown) > count)
        source.stop()


@pytest.mark.parametrize("mqtt", ["3.1.1", "5"])
def test_discover_reads_what_the_broker_keeps_and_ends_by_itself(port: int, mqtt: str, tmp_path: Path) -> None:
    hostile = {"homeassistant/sensor/bad/config": b"\xff\x00", "homeassistant/device/big/config": b"[" * 100_000}
    kept = [*hostile.items(), *((one.topic, one.payload) for one in messages_in(DISCOVERIES / "solaredge2mqtt.jsonl"))]
    publish.multiple([(topic, payload, 1, True) for topic, payload in kept], hostname="127.0.0.1", port=port)
    config = tmp_path / "adapter.toml"
    config.write_text(
        f'[adapter]\nmicrogrid = "r001"\n[adapter.source]\naddress = "127.0.0.1:{port}"\nmqtt = "{mqtt}"\n'
    )
    words = [sys.executable, "-m", "commonwatt", "adapter", "discover", "--config", str(config), "--write"]
    done = forks.run(words)
    assert done.returncode == 0, done.stderr
    assert all(f"# left out: {topic}: " in done.stdout for topic in hostile)
    directions = [meter.direction for meter in load_settings(config, "adapter", AdapterSettings).meter]
    assert sorted(directions) == ["incoming", "outgoing"]
    assert forks.run(words).returncode == 1, "nothing is new"
