"""TLS at real processes: accepted and refused clients, the reasons in log and metrics, and eavesdropping."""

import asyncio
import random
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Self

import pytest

from broker.embedded import EmbeddedBroker
from broker.metrics import BrokerMetrics
from broker.tls import Files
from commonwatt.identity.authority import Authority
from commonwatt.identity.certificates import Purpose
from commonwatt.identity.devices import Device, DeviceRole, digest, new_token, save_devices
from commonwatt.model.effects import Publish
from commonwatt.network.addresses import split_address
from commonwatt.network.tls import ClientTls
from commonwatt.protocol.topics import LTE
from harness.care.certificates import authority, certificate, now
from harness.network.mqtt import connect_packet, link_of
from harness.network.proxy import Proxy
from harness.network.waiting import become, cancelled, ended, eventually, free_port
from harness.real import forks
from harness.real.site import Site, audited, sound

UP, DOWN = "cw1/r001/10001/u/out", "cw1/r001/10001/d/cmd"
BIG_BYTES = (1 << 20) - 1024
WITHOUT_TOKEN = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x00\x00\x0510001"
TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 1\n'
PARTS = ("head-end", "utility", "r001 broker", "r001 gateway", "r001 meters")


class Broker:
    """A broker process that requires certificates, its authority, and gateway r001 with meters 10001 and 10002."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = authority(folder)
        self.tokens: dict[str, str] = {name: new_token() for name in ("r001", "10001", "10002")}
        self.register()
        self.certificate = certificate(self.authority, Purpose.BROKER, "b", file="b/broker.pem")
        self.ca = self.certificate.with_name("ca.pem")
        self.address, self.http = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.config = folder / "b" / "broker.toml"
        self.config.write_text(
            f'[broker]\nlisten = "{self.address}"\nhttp = "{self.http}"\ncertificate = "broker.pem"\n'
            'clients_ca = "ca.pem"\nclients_revoked = "revoked.pem"\n'
        )
        self._process: subprocess.Popen[bytes] | None = None

    def register(self, **revoked: str) -> None:
        devices = [
            Device(
                identity=identity,
                role=DeviceRole.GATEWAY if identity == "r001" else DeviceRole.METER,
                microgrid="r001",
                token_sha256=digest(token.encode()),
                revoked=revoked.get(f"m{identity}", ""),
            )
            for identity, token in self.tokens.items()
        ]
        (self.folder / "b").mkdir(exist_ok=True)
        save_devices(self.folder / "b" / "devices.json", devices)

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "commonwatt", "broker", "run", "--config", str(self.config)]
        (self.folder / "broker.log").unlink(missing_ok=True)
        self._process = forks.start(command, self.folder / "broker.log")
        eventually(self._answers)
        return self

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        try:
            self.metrics()
        except OSError:
            return False
        return True

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            assert ended(self._process, 10) == 0, self.log()

    def log(self) -> str:
        return (self.folder / "broker.log").read_text()

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=30) as answer:
            text: str = answer.read().decode()
            return text

    def metric(self, series: str) -> float:
        wanted = f"commonwatt_broker_{series} "
        return next(float(line.removeprefix(wanted)) for line in self.metrics().splitlines() if line.startswith(wanted))

    def refused(self, reason: str) -> float:
        return self.metric(f'refused_connects_total{{reason="{reason}"}}')

    def cut(self, reason: str) -> float:
        return self.metric(f'cut_connections_total{{reason="{reason}"}}')

    def device(self, name: str, *, of: Authority | None = None, lifetime_s: int = 86_400) -> Path:
        return certificate(of or self.authority, Purpose.DEVICE, name, lifetime_s=lifetime_s)

    def link(
        self, identity: str, own: Path | None, token: str | None = None, *, at: str | None = None, plain: bool = False
    ) -> "Heard":
        """Return a link to this broker, or through ``at``."""
        tls = None if plain else ClientTls(self.ca, own)
        return Heard(at or self.address, identity, self.tokens[identity] if token is None else token, tls)


class Heard:
    """A link, and its received messages."""

    def __init__(self, address: str, identity: str, token: str, tls: ClientTls | None) -> None:
        self.messages: list[bytes] = []
        self.link = link_of(
            address,
            identity,
            token,
            "cw1/r001/+/u/+" if identity == "r001" else f"cw1/r001/{identity}/d/+",
            on_message=self._hear,
            tls=tls,
        )

    def _hear(self, topic: str, payload: bytes) -> None:
        if not topic.endswith(f"/{LTE}"):  # The broker's own.
            self.messages.append(payload)


def play(scene: Coroutine[object, object, None], *links: Heard) -> None:
    """Run links while a scene plays."""

    async def run() -> None:
        tasks = [asyncio.create_task(heard.link.run()) for heard in links]
        try:
            await scene
        finally:
            await cancelled(*tasks)

    asyncio.run(run())


async def arrives(sender: Heard, topic: str, receiver: Heard, payload: bytes) -> None:
    """Send a message again until it is received, as the parts do."""
    async with asyncio.timeout(30):
        while payload not in receiver.messages:
            sender.link.publish(Publish(topic, payload))
            await asyncio.sleep(0.2)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("tls") / "out") as broker:
        yield broker


def test_messages_of_a_mebibyte_pass_both_ways(broker: Broker) -> None:
    meter = broker.link("10001", broker.device("10001"))
    gateway = broker.link("r001", broker.device("r001"))
    up, down = random.Random(1).randbytes(BIG_BYTES), random.Random(2).randbytes(BIG_BYTES)

    async def scene() -> None:
        await become(lambda: meter.link.connected and gateway.link.connected)
        await arrives(meter, UP, gateway, up)
        await arrives(gateway, DOWN, meter, down)
        await arrives(meter, UP, gateway, b"and small ones after it")

    play(scene(), meter, gateway)
    assert meter.link.failures == gateway.link.failures == 0


def test_who_listens_on_the_way_reads_nothing(broker: Broker) -> None:
    heard: list[bytes] = []
    secret = b"household 10001 used 123 mWh"

    class Eavesdropper(Proxy):
        async def _queue(self, direction: object, data: bytes) -> None:
            heard.append(data)
            await super()._queue(direction, data)  # type: ignore[arg-type]

    host, _, port = broker.address.rpartition(":")
    with Eavesdropper((host, int(port))) as proxy:
        meter = broker.link("10001", broker.device("10001"), at=proxy.address)
        gateway = broker.link("r001", broker.device("r001"), at=proxy.address)
        play(arrives(meter, UP, gateway, secret), meter, gateway)
    stream = b"".join(heard)
    assert len(stream) > 2_000
    for telling in (secret, UP.encode(), b"10001", broker.tokens["10001"].encode(), b"r001"):
        assert telling not in stream


def test_row_24_who_is_not_the_device_is_refused_with_the_reason_and_the_victim_is_undisturbed(
    broker: Broker, tmp_path: Path
) -> None:
    stranger = authority(tmp_path / "other")
    intruders = {
        "no certificate": (broker.link("10001", None), "certificate"),
        "another authority's": (broker.link("10001", broker.device("10001", of=stranger)), "certificate"),
        "another device's": (broker.link("10001", broker.device("10002")), "certificate"),
        "another device's, without a token": (broker.link("10001", broker.device("10002"), token=""), "certificate"),
        "its own, with a wrong token": (broker.link("10001", broker.device("10001"), token="guess"), "token"),
        "no TLS": (broker.link("10001", None, plain=True), "tls"),
    }
    victim, gateway = broker.link("10001", broker.device("10001")), broker.link("r001", broker.device("r001"))

    async def scene() -> None:
        await become(lambda: victim.link.connected and gateway.link.connected)
        for number, (what, (intruder, reason)) in enumerate(intruders.items()):
            before = broker.refused(reason)
            task = asyncio.create_task(intruder.link.run())
            await become(partial(_grew, broker, reason, before))
            await cancelled(task)
            assert not intruder.link.connects, what
            await arrives(gateway, DOWN, victim, str(number).encode())

    play(scene(), victim, gateway)
    assert victim.link.connects == gateway.link.connects == 1, "no other client may disturb them"
    assert not any(intruder.messages for intruder, _ in intruders.values())
    for text in ("peer did not return a certificate", "its certificate is of '10002'", "wrong token"):
        assert text in broker.log()


def _grew(broker: Broker, reason: str, before: float) -> bool:
    return broker.refused(reason) > before


@pytest.mark.parametrize(
    ("name", "lifetime_s", "token", "code"),
    [
        ("10001", 86_400, "", 0),
        ("10001", 86_400, "its own", 0),
        ("10001", 86_400, "guess", 4),
        ("10002", 86_400, "", 5),
        ("10001", -10, "", 5),
    ],
)
def test_a_certificate_is_judged_with_the_return_code_that_the_page_says(
    broker: Broker, name: str, lifetime_s: int, token: str, code: int
) -> None:
    own = broker.device(name, lifetime_s=lifetime_s)
    token = broker.tokens["10001"] if token == "its own" else token
    with connected(broker, ClientTls(broker.ca, own).context()) as tls:
        tls.sendall(connect_packet("10001", token) if token else WITHOUT_TOKEN)
        assert tls.recv(4) == bytes((0x20, 2, 0, code))


def test_a_revoked_certificate_is_refused_with_return_code_5(tmp_path: Path) -> None:
    with Broker(tmp_path / "out") as broker:
        own = broker.device("10001")
        broker.authority.revoke("10001", "key lost", now())
        eventually(lambda: "1 revoked" in broker.log())
        with connected(broker, ClientTls(broker.ca, own).context()) as tls:
            tls.sendall(WITHOUT_TOKEN)
            assert tls.recv(4) == b"\x20\x02\x00\x05"


@pytest.mark.parametrize("shown", ["none", "another authority's", "made for a broker"])
def test_who_proves_nothing_to_the_authority_gets_no_return_code(broker: Broker, tmp_path: Path, shown: str) -> None:
    own = None
    if shown == "another authority's":
        own = broker.device("10001", of=authority(tmp_path / "other"))
    elif shown == "made for a broker":
        own = certificate(broker.authority, Purpose.BROKER, "10001")
    before = broker.refused("certificate")
    answer = b""
    with connected(broker, ClientTls(broker.ca, own).context()) as tls, suppress(ssl.SSLError, ConnectionError):
        tls.sendall(WITHOUT_TOKEN)
        answer = tls.recv(4)
    assert answer == b""
    eventually(lambda: broker.refused("certificate") == before + 1)


def test_without_client_certificates_the_token_goes_inside_tls(tmp_path: Path) -> None:
    prepared = Broker(tmp_path)
    lines = prepared.config.read_text().splitlines()
    prepared.config.write_text("\n".join(line for line in lines if not line.startswith("clients_")))
    with prepared as broker:
        for token, code in ((broker.tokens["10001"], 0), ("guess", 4)):
            with connected(broker, ClientTls(broker.ca).context()) as tls:
                tls.sendall(connect_packet("10001", token))
                assert tls.recv(4) == bytes((0x20, 2, 0, code))


def connected(broker: Broker, context: ssl.SSLContext) -> ssl.SSLSocket:
    host, _, port = broker.address.rpartition(":")
    return context.wrap_socket(socket.create_connection((host, int(port)), timeout=20), server_hostname=host)


def test_an_old_version_of_tls_is_refused(broker: Broker) -> None:
    context = ClientTls(broker.ca, broker.device("10001")).context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    before = broker.refused("tls")
    with pytest.raises(OSError, match=r"SSL|reset|EOF|closed"):
        connected(broker, context)
    eventually(lambda: broker.refused("tls") == before + 1)


def test_who_never_ends_the_handshake_is_cut(tmp_path: Path) -> None:
    prepared, metrics = Broker(tmp_path), BrokerMetrics()
    tls = Files(prepared.certificate, prepared.ca, prepared.ca.with_name("revoked.pem"))

    async def scene() -> None:
        broker = EmbeddedBroker("127.0.0.1:0", tmp_path / "b" / "devices.json", metrics, connect_timeout_s=0.3, tls=tls)
        await broker.start()
        reader, writer = await asyncio.open_connection(*split_address(broker.address))
        writer.write(b"\x16\x03\x01")
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
        await broker.stop()

    asyncio.run(scene())
    assert metrics.value("commonwatt_broker_refused_connects_total", reason="timeout") == 1


def test_row_30_an_expired_certificate_ends_its_connection_and_its_renewal_makes_a_new_one(broker: Broker) -> None:
    own = broker.device("10002", lifetime_s=3)
    meter = broker.link("10002", own)

    async def scene() -> None:
        await become(lambda: meter.link.connects == 1)
        cut, before = broker.cut("expired"), broker.refused("expired")
        await become(lambda: not meter.link.connected)
        await become(partial(_grew, broker, "expired", before))
        assert broker.cut("expired") == cut + 1
        assert "the certificate of '10002' is valid from" in broker.log()
        broker.authority.renew(now(), 0)
        await become(lambda: meter.link.connects == 2)

    play(scene(), meter)


def test_row_30_a_revoked_certificate_and_a_revoked_device_are_cut_at_once_and_refused(broker: Broker) -> None:
    meter, other = broker.link("10001", broker.device("10001")), broker.link("10002", broker.device("10002"))

    async def scene() -> None:
        await become(lambda: meter.link.connected and other.link.connected)
        cut, before = broker.cut("revoked"), broker.refused("revoked")
        broker.authority.revoke("10002", "key lost", now())
        await become(lambda: not other.link.connected)
        await become(partial(_grew, broker, "revoked", before))
        assert broker.cut("revoked") == cut + 1
        assert meter.link.connected
        broker.register(m10001="stolen")
        await become(lambda: not meter.link.connected)
        await become(lambda: "it was revoked: stolen" in broker.log())
        # A new certificate for the one, a removed revocation for the other: both are admitted again.
        broker.device("10002")
        broker.register()
        await become(lambda: meter.link.connected and other.link.connected)

    play(scene(), meter, other)


def test_clients_leave_a_broker_that_is_on_their_list_and_do_not_come_back(tmp_path: Path) -> None:
    with Broker(tmp_path / "out") as broker:
        own = broker.device("10001")
        tls = ClientTls(broker.ca, own, own.with_name("revoked.pem"))
        meter = Heard(broker.address, "10001", broker.tokens["10001"], tls)

        async def scene() -> None:
            await become(lambda: meter.link.connected)
            broker.authority.revoke("b", "stolen", now(), Purpose.BROKER)
            await become(lambda: not meter.link.connected)
            await become(lambda: broker.refused("tls") > 1)
            assert meter.link.connects == 1

        play(scene(), meter)


def test_an_authority_that_was_replaced_takes_the_connections_it_proved_with_it(tmp_path: Path) -> None:
    with Broker(tmp_path / "site") as broker:
        meter = broker.link("10001", broker.device("10001"))

        async def scene() -> None:
            await become(lambda: meter.link.connected)
            # Another authority, and the new TLS contexts for it, disconnect no client.
            ours, other = broker.ca.read_bytes(), authority(tmp_path / "other").out / "authority"
            broker.ca.write_bytes(ours + (other / "ca.pem").read_bytes())
            await become(lambda: broker.log().count("read again") == 1)
            assert (meter.link.connects, meter.link.connected) == (1, True)
            broker.ca.with_name("revoked.pem").write_bytes((other / "revoked.pem").read_bytes())
            broker.ca.write_bytes((other / "ca.pem").read_bytes())
            await become(lambda: not meter.link.connected)
            await become(lambda: "the authority of its certificate is no longer trusted" in broker.log())
            assert broker.cut("revoked") == 1

        play(scene(), meter)


def test_a_renewed_certificate_of_the_broker_is_taken_over_without_a_restart(broker: Broker) -> None:
    context = ClientTls(broker.ca, broker.device("10001")).context()

    def serial() -> int:
        with connected(broker, context) as tls:
            return int(str((tls.getpeercert() or {})["serialNumber"]), 16)

    before = serial()
    broker.certificate.write_text("torn")
    eventually(lambda: "keeping the certificates" in broker.log())
    assert serial() == before
    certificate(broker.authority, Purpose.BROKER, "b", file="b/broker.pem")
    eventually(lambda: serial() != before)
    expires = broker.metric('certificate_expiry_timestamp_seconds{use="mqtt"}')
    assert expires == broker.authority.issued[-1].expires
    assert broker.metric("tls_file_errors_total") > 0


def test_row_30_a_gateway_with_an_expired_certificate_keeps_everything_and_sends_it_after_renewal(
    tmp_path: Path,
) -> None:
    with Site(tmp_path / "site", TOWN, speed=120, plain_text=False) as site:
        site.start(*PARTS)
        eventually(lambda: stored(site) > 0)
        certificate(Authority.load(site.folder), Purpose.DEVICE, "r001", lifetime_s=2, file="r001/gateway.pem")
        refused = 'commonwatt_broker_refused_connects_total{reason="expired"}'
        eventually(lambda: site.metric("head-end", refused) > 0)
        assert "the certificate of 'r001' is valid from" in site.log("head-end")
        # The gateway continues: meters get their acknowledgements, and unsent data waits.
        at_expiry = acknowledged(site)
        eventually(lambda: acknowledged(site) > at_expiry + 25)
        sent = stored(site)  # With the last batch before the expiry, which the utility may have stored a little later.
        eventually(lambda: acknowledged(site) > at_expiry + 50)
        assert stored(site) == sent
        assert site.metric("r001 gateway", 'commonwatt_gateway_backlog{kind="parts"}') > 0
        expires = 'commonwatt_gateway_certificate_expiry_timestamp_seconds{use="mqtt"}'
        assert site.metric("r001 gateway", expires) < now()
        enroll(site, "device", "r001")
        made = int((site.status("r001 meters") or {})["made"])
        eventually(lambda: acknowledged(site) >= made)
        eventually(lambda: audited(site.folder).total("stored_exact") >= made)
        sound(site.folder)
        assert "renew it with: commonwatt site init" in site.log("r001 gateway")
        # A revoked client is disconnected at once, with the reason in the log.
        enroll(site, "revoke", "r001", "--reason", "stolen")
        # Disconnected, unless it reconnected by itself because of the new list in its folder, and was refused.
        eventually(lambda: site.metric("head-end", refused.replace("expired", "revoked")) > 0)
        eventually(lambda: "was revoked" in site.log("head-end"))
        site.stop(*reversed(PARTS))


def acknowledged(site: Site) -> int:
    return int((site.status("r001 meters") or {}).get("acknowledged", 0))


def stored(site: Site) -> int:
    return int((site.status("utility") or {}).get("microgrids", {}).get("r001", {}).get("received_slots", 0))


def enroll(site: Site, *words: str) -> None:
    command = [sys.executable, "-m", "commonwatt", "enroll", *words, "--out", str(site.folder)]
    forks.run(command, check=True)
