"""A real Mosquitto in place of our broker, from the files that ``commonwatt broker render mosquitto`` writes."""

import socket
import ssl
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from broker.access_rules import TopicAction, allowed
from commonwatt.identity.authority import EnrolmentAuthority
from commonwatt.identity.certificates import Purpose, pem
from commonwatt.identity.devices import Device, DeviceRole, save_devices
from harness.care.certificates import DAY_S, authority, certificate, now
from harness.network.mqtt import (
    CONNACK,
    PINGREQ_PACKET,
    PINGRESP,
    PUBLISH,
    SUBACK,
    RawClient,
    connect_packet,
    packet,
    publish_packet,
    subscribe_packet,
    text,
)
from harness.network.waiting import eventually, free_port
from harness.real.brokers import Mosquitto, render
from harness.real.site import Site, sound
from tests.integration.test_tls import acknowledged, stored
from tests.unit.broker.test_mosquitto import DEVICES, EVERYTHING, PROPER
from tests.unit.broker.test_mosquitto import registered as registered
from tests.unit.commonwatt.test_enrolment_authority import with_two_names

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\npush_share = 0.5\n'
BROKERS = ("head-end", "r001 broker")
SERVICES = ("utility", "r001 gateway", "r001 meters")

ACCEPTED = bytes([CONNACK, 2, 0, 0])
NOT_AUTHORISED = bytes([CONNACK, 2, 0, 5])
OBSERVER = "observer"


GATEWAY = registered("r001", DeviceRole.GATEWAY)
METER, OTHER, NEW = registered("1"), registered("11"), registered("12")


class Place:
    """A broker's folder, and the address of its Mosquitto."""

    def __init__(self, folder: Path, devices: list[Device], settings: str = "") -> None:
        self.folder, self.port = folder, free_port()
        self._config = folder / "broker.toml"
        self._config.write_text(f'[broker]\nlisten = "127.0.0.1:{self.port}"\n{settings}')
        self.register(devices)

    def register(self, devices: list[Device]) -> list[str]:
        """Write the devices and all files anew; return the command of the Mosquitto."""
        save_devices(self.folder / "devices.json", devices)
        self.run = render(self._config, self.folder / "mosquitto")
        return self.run

    def mosquitto(self) -> Mosquitto:
        return Mosquitto(self.run, ("127.0.0.1", self.port), self.folder / "mosquitto.log")

    def client(self, identity: str) -> RawClient:
        return RawClient(self.port, identity, f"token of {identity}")

    def answer(self, data: bytes) -> bytes:
        """Return the answer to the first packet of a connection; empty if the connection ends."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(data)
            try:
                return connection.recv(4)
            except ConnectionResetError:
                return b""


def heard(client: RawClient) -> set[tuple[str, bytes]]:
    """Return the messages that a client has received: topics and payloads."""
    found: set[tuple[str, bytes]] = set()
    client.send(PINGREQ_PACKET)
    for kind, body in client.received():
        if kind == PINGRESP:
            return found
        if kind == PUBLISH:
            at = 2 + int.from_bytes(body[:2], "big")
            found.add((body[2:at].decode(), body[at:]))
    raise AssertionError("the connection ended")


def test_each_identity_can_do_on_each_topic_what_our_rules_grant(tmp_path: Path) -> None:
    """An observer of the test's, who may do everything, sees who gets through, and speaks to everybody."""
    devices = [registered(d.identity, d.role, d.microgrid) for d in DEVICES]
    place = Place(tmp_path, devices)
    with (tmp_path / "mosquitto" / "access").open("a") as access:
        access.write(f"\nuser {OBSERVER}\ntopic readwrite #\n")
    with (tmp_path / "mosquitto" / "passwords").open("a") as passwords:
        passwords.write(f"{OBSERVER}:{registered(OBSERVER).mosquitto}\n")
    # Mosquitto ends the connection for an unprintable character, as in a topic of any client.
    topics = [topic for topic in EVERYTHING if PROPER.fullmatch(topic) and topic.isprintable()]
    with place.mosquitto(), place.client(OBSERVER) as observer:
        observer.subscribe("#", 0)
        for who in devices:
            with place.client(who.identity) as client:
                client.send(b"".join(publish_packet(topic, who.identity.encode()) for topic in topics))
                client.ping()
                client.subscribe("#", 0)
                published = {topic for topic in topics if allowed(who, TopicAction.PUBLISH, topic)}
                assert heard(observer) == {(topic, who.identity.encode()) for topic in published}
                observer.send(b"".join(publish_packet(topic, b"down") for topic in topics))
                assert heard(observer) == {(topic, b"down") for topic in topics}
                received = {topic for topic in topics if allowed(who, TopicAction.RECEIVE, topic)}
                assert heard(client) == {(topic, b"down") for topic in received}
                assert published
                assert received


def test_who_proves_nothing_is_refused_and_nobody_takes_over_anothers_name(tmp_path: Path) -> None:
    place = Place(tmp_path, [GATEWAY, METER, OTHER, registered("13", revoked="stolen")])
    with place.mosquitto() as mosquitto, place.client("1") as genuine, place.client("r001") as gateway:
        gateway.subscribe("cw1/r001/+/u/+")
        for identity, token in [("1", "x"), ("1", ""), ("1", "token of 11"), ("9", "x"), ("13", "token of 13")]:
            assert place.answer(connect_packet(identity, token)) == NOT_AUTHORISED
        without_name = text("MQTT") + bytes([4, 2, 0, 0]) + text("1")
        assert place.answer(packet(0x10, without_name)) == NOT_AUTHORISED
        # Its own name and token, another's client id: the proven identity counts; no client is disconnected.
        as_another = text("MQTT") + bytes([4, 0xC2, 0, 0]) + text("1") + text("11") + text("token of 11")
        with socket.create_connection(("127.0.0.1", place.port), timeout=20) as connection:
            connection.sendall(packet(0x10, as_another))
            assert connection.recv(4) == ACCEPTED
            connection.sendall(
                publish_packet("cw1/r001/1/u/rec", b"forged") + publish_packet("cw1/r001/11/u/rec", b"own")
            )
            assert gateway.message() == ("cw1/r001/11/u/rec", b"own")
        genuine.publish("cw1/r001/1/u/rec", b"genuine")
        assert gateway.message() == ("cw1/r001/1/u/rec", b"genuine")
        eventually(lambda: "as 11 (" in mosquitto.log() and "not authorised" in mosquitto.log())


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (packet(PUBLISH | 3, text("cw1/r001/1/u/rec") + b"\0\1kept"), "client 1"),
        (packet(PUBLISH | 4, text("cw1/r001/1/u/rec") + b"\0\1twice"), "Too high QoS"),
        (publish_packet("cw1/r001/1/u/rec", bytes(1 << 20)), "oversize packet"),
    ],
    ids=["retained", "QoS 2", "1 MiB"],
)
def test_what_our_guard_cuts_mosquitto_cuts(tmp_path: Path, sent: bytes, why: str) -> None:
    place = Place(tmp_path, [GATEWAY, METER])
    with place.mosquitto() as mosquitto:
        with place.client("1") as client:
            with suppress(ConnectionError):  # It may be disconnected before all of it is sent.
                client.send(sent)
            client.wait_until_cut()
        eventually(lambda: why in mosquitto.log())
        with place.client("r001") as gateway:
            gateway.subscribe("cw1/r001/+/u/+")
            assert heard(gateway) == set()


def test_after_rendering_again_a_signal_admits_the_new_and_shuts_out_the_revoked(tmp_path: Path) -> None:
    place = Place(tmp_path, [GATEWAY, METER, OTHER])
    with place.mosquitto() as mosquitto, place.client("11") as going, place.client("1") as staying:
        assert place.answer(connect_packet("12", "token of 12")) == NOT_AUTHORISED
        place.register([GATEWAY, METER, registered("11", revoked="stolen"), NEW])
        mosquitto.reload()
        assert place.answer(connect_packet("12", "token of 12")) == ACCEPTED
        assert place.answer(connect_packet("11", "token of 11")) == NOT_AUTHORISED
        going.wait_until_cut()
        staying.ping()


class Enrolled(Place):
    """A place whose Mosquitto requires certificates."""

    def __init__(self, folder: Path, devices: list[Device]) -> None:
        self.authority = authority(folder)
        certificate(self.authority, Purpose.BROKER, "b", file="b/broker.pem")
        super().__init__(
            folder / "b",
            devices,
            'certificate = "broker.pem"\nclients_ca = "ca.pem"\nclients_revoked = "revoked.pem"\n',
        )

    def shake_hands(self, own: Path | None, *, old: bool = False) -> ssl.SSLSocket:
        """Connect with or without a certificate, optionally with an old version of TLS."""
        context = ssl.create_default_context(cafile=self.folder / "ca.pem")
        if own is not None:
            context.load_cert_chain(own)
        if old:
            with pytest.warns(DeprecationWarning, match="TLSv1"):
                context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
            context.set_ciphers("ALL:@SECLEVEL=0")
        return context.wrap_socket(
            socket.create_connection(("127.0.0.1", self.port), timeout=20), server_hostname="127.0.0.1"
        )

    def admits(self, own: Path | None, identity: str = "1") -> bool:
        """Return whether a client is accepted; with TLS 1.3 the certificate's refusal comes after the handshake."""
        try:
            with self.shake_hands(own) as connection:
                connection.sendall(connect_packet(identity, f"token of {identity}"))
                return connection.recv(4) == ACCEPTED
        except OSError:
            return False


def test_with_certificates_who_is_not_the_authoritys_is_refused(tmp_path: Path) -> None:
    place = Enrolled(tmp_path, [GATEWAY, METER, OTHER])
    good = certificate(place.authority, Purpose.DEVICE, "1")
    (tmp_path / "theirs").mkdir()
    theirs = certificate(authority(tmp_path / "theirs"), Purpose.DEVICE, "1")
    expired = certificate(place.authority, Purpose.DEVICE, "11", at=now() - 3 * DAY_S)
    with place.mosquitto() as mosquitto:
        assert place.admits(good)
        assert not place.admits(None)
        assert not place.admits(theirs)
        assert not place.admits(expired)
        assert not place.admits(place.folder / "broker.pem"), "a broker's is no device's"
        assert place.answer(connect_packet("1", "token of 1")) == b"", "plain text"
        with pytest.raises(ssl.SSLError):
            place.shake_hands(good, old=True)
        reasons = {"certificate verify failed", "peer did not return a certificate", "unsupported protocol"}
        eventually(lambda: all(why in mosquitto.log() for why in reasons))


def test_with_certificates_the_name_in_it_is_who_a_client_is_and_a_revoked_one_is_shut_out(tmp_path: Path) -> None:
    place = Enrolled(tmp_path, [GATEWAY, METER, OTHER])
    gateway_own = certificate(place.authority, Purpose.DEVICE, "r001")
    own = certificate(place.authority, Purpose.DEVICE, "1")
    unknown = certificate(place.authority, Purpose.DEVICE, "99")
    with place.mosquitto() as mosquitto, place.shake_hands(gateway_own) as gateway, place.shake_hands(own) as meter:
        for connection, identity in ((gateway, "r001"), (meter, "11")):
            connection.sendall(connect_packet(identity, "any"))
            assert connection.recv(4) == ACCEPTED
        gateway.sendall(subscribe_packet("cw1/r001/+/u/+", 0))
        assert gateway.recv(5)[0] == SUBACK
        with place.shake_hands(unknown) as stranger:
            stranger.sendall(connect_packet("1", "token of 1") + publish_packet("cw1/r001/1/u/rec", b"strange"))
            assert stranger.recv(4) == ACCEPTED, "of the authority, but unregistered: no topic is allowed"
        meter.sendall(publish_packet("cw1/r001/11/u/rec", b"forged") + publish_packet("cw1/r001/1/u/rec", b"own"))
        assert gateway.recv(100) == publish_packet("cw1/r001/1/u/rec", b"own")

        eventually(lambda: now() > place.authority.issued[0].issued)  # Lists of the same second are equally new.
        certificate(place.authority, Purpose.BROKER, "b", file="b/broker.pem")
        place.authority.revoke("1", "stolen", now())
        place.register([GATEWAY, registered("1", revoked="stolen"), OTHER])
        mosquitto.reload()
        assert not place.admits(own)
        other = certificate(place.authority, Purpose.DEVICE, "11")
        assert place.admits(other)
        with place.shake_hands(other) as renewed:
            numbers = [(connection.getpeercert() or {})["serialNumber"] for connection in (renewed, meter)]
            assert numbers[0] != numbers[1], "the broker's certificate was renewed"
        # Without tokens an open connection stays, but without access rules.
        for connection in (meter, gateway):
            connection.sendall(publish_packet("cw1/r001/1/u/rec", b"after") + PINGREQ_PACKET)
            assert connection.recv(100) == bytes([PINGRESP, 0]), "no client may receive a revoked device's messages"


def test_a_town_runs_by_mosquittos_that_are_killed_and_loses_nothing(tmp_path: Path) -> None:
    """At its head-end by certificates, at its microgrid by tokens; nothing else of it is changed."""
    with Site(tmp_path / "site", TOWN, speed=120, plain_text=False) as site:
        for name in BROKERS:
            site.put_mosquitto(name)
        site.start(*BROKERS, *SERVICES)
        eventually(lambda: stored(site) > 100)
        for name in BROKERS:
            site.kill(name)
            site.start(name)
            before = stored(site)
            eventually(partial(lambda least: stored(site) > least, before + 100))
        made = int((site.status("r001 meters") or {})["made"])
        eventually(lambda: acknowledged(site) >= made)
        site.stop("r001 meters")
        site.drained()
        audit = sound(site.folder)
        assert audit.total("stored_exact") >= made
        for name in BROKERS:
            assert site.log(name).count("mosquitto version 2") >= 2
        site.stop("r001 gateway", "utility", *BROKERS)


def test_a_thief_of_the_enrolment_authority_gets_in_as_registered_controllers_alone_until_it_is_revoked(
    tmp_path: Path,
) -> None:
    place = Enrolled(tmp_path, [GATEWAY, METER, OTHER])
    place.authority.enrol({"r001": ("127.0.0.1",)}, now())

    def made(name: str) -> Path:
        signer = EnrolmentAuthority.load(tmp_path / "authority").signer("r001")
        path = tmp_path / f"{name}.pem"
        text = signer.issue(Purpose.DEVICE, name, (), now(), DAY_S)[1] + pem(signer.certificate)
        path.write_text(text)
        return path

    own, forged = made("r001"), [made("utility"), made("1")]
    enrolment = EnrolmentAuthority.load(tmp_path / "authority")
    signer = enrolment.signer("r001")
    chain = signer.issue(Purpose.BROKER, "r001", ("127.0.0.1",), now(), DAY_S)[1] + pem(signer.certificate)
    (tmp_path / "b/broker.pem").write_text(chain)  # a chain, as a controller has after joining
    with (place.folder / "mosquitto" / "access").open("a") as access:
        access.write(f"\nuser {OBSERVER}\ntopic read #\n")
    with place.mosquitto() as mosquitto:
        assert place.admits(own, "r001")
        assert not any(place.admits(each) for each in forged)
        with place.shake_hands(certificate(place.authority, Purpose.DEVICE, OBSERVER)) as observer:
            observer.sendall(connect_packet(OBSERVER, "any") + subscribe_packet("#", 0))
            assert observer.recv(4) == ACCEPTED
            assert observer.recv(5)[0] == SUBACK
            with place.shake_hands(with_two_names(tmp_path / "two.pem", enrolment, "r001", "1")) as both:
                topics = ("cw1/r001/1/u/rec", "cw1/r001/1/d/cmd")
                both.sendall(connect_packet("x", "any") + b"".join(publish_packet(topic, b"x") for topic in topics))
                assert observer.recv(100) == publish_packet(topics[1], b"x"), "it is the first name's device alone"
        place.authority.revoke("r001", "stolen", now(), Purpose.ENROLMENT)
        mosquitto.reload()
        assert not place.admits(own, "r001")
