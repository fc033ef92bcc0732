"""Certificates and contexts: only what an authority issued, for that use, is believed; damage is one kind of error."""

import base64
import ssl
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from commonwatt.identity.authority import Authority
from commonwatt.identity.certificates import Purpose, Signer, expires_at, pem, revoked_serials
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.tls import ClientTls, Expiry, client_tls, server_context, stamp, trust
from harness.care.certificates import DAY_S, authority, certificate, now

SIGNER = Signer.new("test", now(), DAY_S)
CA, REVOKED = pem(SIGNER.certificate).encode(), SIGNER.revocations({17: now(), 18: now()}).encode()


def accepted(read: Callable[[bytes], object], text: bytes) -> list[object]:
    """Return what is read from the texts that differ from ``text`` in one byte of what it says; the rest is refused."""
    first, *middle, last = text.splitlines()
    content = base64.b64decode(b"".join(middle))
    found = []
    for at in range(len(content)):
        for flip in (0x01, 0x20, 0x80, 0xFF):
            damaged = content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :]
            try:
                # Of some damage cryptography warns, which here is an error, that it will be one some day.
                with warnings.catch_warnings(action="ignore"):
                    found.append(read(first + b"\n" + base64.encodebytes(damaged) + last + b"\n"))
            except ConfigError:
                continue
    return found


def test_a_list_of_revocations_with_a_flipped_bit_is_refused_or_says_the_same() -> None:
    assert revoked_serials(REVOKED, CA) == {17, 18}
    assert all(each == {17, 18} for each in accepted(lambda damaged: revoked_serials(damaged, CA), REVOKED))


def test_an_authority_with_a_flipped_bit_is_refused_or_believes_the_same_list() -> None:
    # Much of a certificate concerns neither its key nor its end.
    found = accepted(lambda damaged: revoked_serials(REVOKED, damaged), CA)
    assert found
    assert all(each == {17, 18} for each in found)
    assert accepted(expires_at, CA)
    assert accepted(lambda damaged: Signer.load(damaged, SIGNER.key_pem().encode()), CA)


NAME = "127.0.0.1"


@pytest.fixture
def site(tmp_path: Path) -> Authority:
    return authority(tmp_path / "out")


def shake(client: ssl.SSLContext, server: ssl.SSLContext, name: str = NAME) -> ssl.SSLObject:
    """Shake hands in memory; return the server's side, or raise what either side has against the other."""
    return both(client, server, name)[1]


def both(
    client: ssl.SSLContext, server: ssl.SSLContext, name: str = NAME, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Shake hands as ``shake``, the client trying to resume ``session``; return both sides."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(down, up, server_hostname=name, session=session)
    far = server.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return near, far


def asking(broker: Path, ca: Path) -> ssl.SSLContext:
    context = server_context(broker)
    trust(context, ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_client_and_broker_of_one_authority_agree_and_the_client_is_known(site: Authority) -> None:
    broker, device = certificate(site, Purpose.BROKER, "head-end"), certificate(site, Purpose.DEVICE, "r001")
    ca = device.with_name("ca.pem")
    server = shake(ClientTls(ca, device).context(), asking(broker, ca))
    assert server.version() == "TLSv1.3"
    shown = server.getpeercert()
    assert shown is not None
    assert shown["subject"] == ((("commonName", "r001"),),)
    assert int(str(shown["serialNumber"]), 16) == site.issued[-1].serial


def test_a_broker_of_another_authority_is_not_believed(site: Authority, tmp_path: Path) -> None:
    other = authority(tmp_path / "other")
    broker, ca = certificate(other, Purpose.BROKER, "head-end"), certificate(site, Purpose.DEVICE, "r001")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"signature failure|unable to get local issuer|self-signed"):
        shake(ClientTls(ca.with_name("ca.pem")).context(), server_context(broker))


def test_a_broker_at_another_address_is_not_believed(site: Authority) -> None:
    broker = certificate(site, Purpose.BROKER, "head-end")
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        shake(ClientTls(broker.with_name("ca.pem")).context(), server_context(broker), "127.0.0.2")


def test_a_device_can_not_stand_for_a_broker_nor_a_broker_for_a_device(site: Authority) -> None:
    broker, device = certificate(site, Purpose.BROKER, "r001"), certificate(site, Purpose.DEVICE, "r001")
    ca = broker.with_name("ca.pem")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"unsuitable|unsupported certificate purpose"):
        shake(ClientTls(ca).context(), server_context(device))
    with pytest.raises(ssl.SSLCertVerificationError, match=r"unsuitable|unsupported certificate purpose"):
        shake(ClientTls(ca, broker).context(), asking(broker, ca))


def test_a_revoked_broker_is_not_believed_by_who_has_the_list(site: Authority) -> None:
    stolen = certificate(site, Purpose.BROKER, "stolen")
    device = certificate(site, Purpose.DEVICE, "r001")
    ca, revoked = device.with_name("ca.pem"), device.with_name("revoked.pem")
    shake(ClientTls(ca, device, revoked).context(), asking(stolen, ca))
    site.revoke("stolen", "lost", now(), Purpose.BROKER)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate revoked"):
        shake(ClientTls(ca, device, revoked).context(), asking(stolen, ca))
    shake(ClientTls(ca, device, revoked).context(), asking(certificate(site, Purpose.BROKER, "head-end"), ca))


@pytest.mark.parametrize(("clock_s", "revoked_s"), [(100, 0), (now(), 10 * DAY_S)], ids=["1970", "ten days behind"])
def test_a_list_of_revocations_counts_for_who_has_a_clock_that_is_behind(
    site: Authority, monkeypatch: pytest.MonkeyPatch, clock_s: float, revoked_s: int
) -> None:
    stolen, good = certificate(site, Purpose.BROKER, "stolen"), certificate(site, Purpose.BROKER, "head-end")
    ca, revoked = good.with_name("ca.pem"), good.with_name("revoked.pem")
    # Made later than the time by which the handshake judges, the machine's.
    site.revoke("stolen", "lost", now() + revoked_s, Purpose.BROKER)
    monkeypatch.setattr("time.time", lambda: float(clock_s))
    shake(ClientTls(ca, None, revoked).context(), server_context(good))
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate revoked"):
        shake(ClientTls(ca, None, revoked).context(), server_context(stolen))


def test_without_the_list_of_its_authority_no_broker_is_believed(site: Authority, tmp_path: Path) -> None:
    broker = certificate(site, Purpose.BROKER, "head-end")
    ca = broker.with_name("ca.pem")
    other = authority(tmp_path / "other")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(ClientTls(ca, None, other.out / "authority" / "revoked.pem").context(), server_context(broker))
    (tmp_path / "torn.pem").write_text("torn")
    with pytest.raises(ConfigError, match=r"torn\.pem: no list of revoked certificates"):
        client_tls(ca, None, tmp_path / "torn.pem")


def test_an_expired_broker_is_not_believed(site: Authority) -> None:
    broker = certificate(site, Purpose.BROKER, "head-end", lifetime_s=-10)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake(ClientTls(broker.with_name("ca.pem")).context(), server_context(broker))


def test_who_shows_no_certificate_is_refused_where_one_is_required(site: Authority) -> None:
    broker = certificate(site, Purpose.BROKER, "head-end")
    ca = broker.with_name("ca.pem")
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake(ClientTls(ca).context(), asking(broker, ca))


def test_our_brokers_speak_tls_1_3_and_our_clients_nothing_older_than_1_2(site: Authority) -> None:
    broker = certificate(site, Purpose.BROKER, "head-end")
    client = ClientTls(broker.with_name("ca.pem")).context()
    assert client.minimum_version == ssl.TLSVersion.TLSv1_2
    assert shake(client, server_context(broker)).version() == "TLSv1.3"
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"UNSUPPORTED_PROTOCOL|NO_PROTOCOLS_AVAILABLE|ALERT_PROTOCOL_VERSION"):
        shake(client, server_context(broker))


def test_no_handshake_is_resumed(site: Authority) -> None:
    broker = certificate(site, Purpose.BROKER, "head-end")
    client, server = ClientTls(broker.with_name("ca.pem")).context(), server_context(broker)
    near, far = both(client, server)
    far.write(b"x")
    near.read(1)  # A ticket would have come before it.
    assert near.session is not None
    _, again = both(client, server, session=near.session)
    assert again.session_reused is False


def test_a_clock_of_1970_does_not_keep_a_gateway_from_its_utility(
    site: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = certificate(site, Purpose.BROKER, "head-end", lifetime_s=-10)
    ca = broker.with_name("ca.pem")
    monkeypatch.setattr("time.time", lambda: 100.0)
    # It can't judge that the broker's has expired, but still who signed it, and for what.
    context = ClientTls(ca).context()
    shake(context, server_context(broker))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(context, server_context(broker), "somewhere.else")


def test_an_authority_that_begins_later_does_not_keep_times_from_being_judged(site: Authority, tmp_path: Path) -> None:
    broker = certificate(site, Purpose.BROKER, "head-end", lifetime_s=-10)
    later = Authority.create(tmp_path / "later", "later", now() + 10 * DAY_S)
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(broker.with_name("ca.pem").read_text() + (later.out / "authority" / "ca.pem").read_text())
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake(ClientTls(bundle).context(), server_context(broker))


@pytest.mark.parametrize("content", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_files_that_are_none_are_named_with_what_to_do(site: Authority, tmp_path: Path, content: str) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text(content)
    device = certificate(site, Purpose.DEVICE, "r001")
    for ca, own in ((bad, None), (device.with_name("ca.pem"), bad), (device.with_name("ca.pem"), tmp_path / "no.pem")):
        with pytest.raises(ConfigError, match=r"(bad|no)\.pem: .*commonwatt enroll"):
            client_tls(ca, own)
    with pytest.raises(ConfigError, match="bad"):
        server_context(bad)


def test_a_certificate_without_its_key_is_refused(site: Authority, tmp_path: Path) -> None:
    device = certificate(site, Purpose.DEVICE, "r001")
    bare = tmp_path / "bare.pem"
    bare.write_text("-----BEGIN CERTIFICATE" + device.read_text().partition("-----BEGIN CERTIFICATE")[2])
    with pytest.raises(ConfigError, match=r"bare\.pem"):
        client_tls(device.with_name("ca.pem"), bare)


def test_without_an_authority_there_is_no_tls() -> None:
    assert client_tls(None, None) is None


def test_expiry_follows_the_file_and_is_told_once_a_day(site: Authority, caplog: pytest.LogCaptureFixture) -> None:
    device = certificate(site, Purpose.DEVICE, "r001", lifetime_s=20 * DAY_S)
    expiry = Expiry(device, device.with_name("ca.pem"))
    assert expiry.look() == site.issued[-1].expires
    expiry.look()
    assert len([r for r in caplog.records if "expires in 20.0 days" in r.getMessage()]) == 1
    certificate(site, Purpose.DEVICE, "r001", lifetime_s=90 * DAY_S)
    assert expiry.look() == site.issued[-1].expires
    assert len(caplog.records) == 1
    device.write_text("torn")
    assert expiry.look() == site.issued[-1].expires, "what was known stays"
    assert Expiry().look() is None


def test_a_stamp_tells_a_replaced_file_from_the_old_one(site: Authority) -> None:
    device = certificate(site, Purpose.DEVICE, "r001")
    before = stamp(device)
    assert stamp(device) == before
    certificate(site, Purpose.DEVICE, "r001", at=now())
    assert stamp(device) != before
    device.unlink()
    with pytest.raises(ConfigError, match="No such file"):
        stamp(device)
