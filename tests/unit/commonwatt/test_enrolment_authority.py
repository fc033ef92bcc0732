"""The enrolment authority, whose key signs no other name, and certificate files that renew themselves."""

import os
import random
import shutil
import ssl
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker.metrics import BrokerMetrics
from broker.tls import BrokerTls, Files
from commonwatt.identity.authority import Authority, EnrolmentAuthority
from commonwatt.identity.certificates import Purpose, Signer, details_of, key_pem, pem, revoked_serials
from commonwatt.identity.chains import check_issued
from commonwatt.identity.renewing import DUE, SPREAD, CertificateFile
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.tls import ClientTls, own
from harness.care.certificates import DAY_S, CareTown, authority, certificate, now
from harness.powercut.disk import Disk, Recorder, build, records
from harness.powercut.disk import Kind as DiskKind
from tests.unit.broker.test_tls import Listener
from tests.unit.commonwatt.test_tls import shake

AT, LOCAL, HEAD_END = "10.1.0.1", "127.0.0.1", "10.0.0.1"
TOWN = {"r001": (AT, LOCAL), "r002": ("r002.example.org",)}


@pytest.fixture
def office(tmp_path: Path) -> Authority:
    made = authority(tmp_path / "out")
    for place in TOWN:
        (made.out / place).mkdir()
        (made.out / place / "registry.json").write_text("{}")
    certificate(made, Purpose.BROKER, "head-end", file="head-end/broker.pem")
    certificate(made, Purpose.DEVICE, "utility", file="utility/utility.pem")
    made.enrol(TOWN, now())
    return made


def enrolment(office: Authority) -> EnrolmentAuthority:
    return EnrolmentAuthority.load(office.out / "authority")


def key_and_request(name: str = "r001") -> tuple[str, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    form = serialization.PrivateFormat.PKCS8
    text = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
    return text, request.public_bytes(serialization.Encoding.PEM)


def joined(office: Authority, kind: Purpose, name: str = "r001", addresses: Sequence[str] = ()) -> Path:
    """Return the file of a certificate that the enrolment authority issued as it does."""
    key, request = key_and_request()
    path = office.out / f"{kind}-{name}.pem"
    path.write_text(key + enrolment(office).issue(request, kind, name, addresses, now(), 90))
    return path


def forged(office: Authority, kind: Purpose, name: str, addresses: Sequence[str] = (), by: str = "r001") -> Path:
    """Return the file of a certificate that a thief of the enrolment authority's key makes."""
    signer = enrolment(office).signer(by)
    path = office.out / "forged.pem"
    path.write_text(signer.issue(kind, name, addresses, now(), DAY_S)[1] + pem(signer.certificate))
    return path


def with_two_names(path: Path, own: EnrolmentAuthority, first: str, second: str) -> Path:
    """Make a certificate with two names, of which verifiers' name constraints compare the first alone."""
    signer, key = own.signer(first), ec.generate_private_key(ec.SECP256R1())
    names = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in (first, second)])
    ca = signer.certificate
    builder = x509.CertificateBuilder(ca.subject, names, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(ca.not_valid_before_utc).not_valid_after(ca.not_valid_after_utc)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    path.write_text(key_pem(key) + pem(builder.sign(signer.key, hashes.SHA256())) + pem(ca))
    return path


def ca_of(office: Authority) -> Path:
    return office.out / "head-end" / "ca.pem"


def admit(office: Authority, device: Path) -> str:
    """Return the name in a device's certificate, by the head-end's broker; raise why it is refused."""
    made = office.out / "head-end"
    listener = Listener.__new__(Listener)
    listener.ca, listener.files = ca_of(office), Files(made / "broker.pem", made / "ca.pem", made / "revoked.pem")
    listener.tls = BrokerTls(listener.files, BrokerMetrics())
    listener.tls.load()
    server = shake(ClientTls(listener.ca, device).context(), listener.tls._context)
    return str(listener.proved(server.getpeercert()))


def test_what_is_issued_for_a_controller_is_believed(office: Authority) -> None:
    assert admit(office, joined(office, Purpose.DEVICE)) == "r001"
    broker = joined(office, Purpose.BROKER, addresses=(AT, LOCAL))
    client = ClientTls(ca_of(office), None, office.out / "head-end" / "revoked.pem").context()
    for address in (AT, LOCAL):
        shake(client, _server(broker), address)
    shake(client, _server(joined(office, Purpose.BROKER, "r002", ["r002.example.org"])), "r002.example.org")


def _server(broker: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(broker)
    return context


@pytest.mark.parametrize("name", ["utility", "plant", "head-end", "r009", "r002", "10001", "Commonwatt"])
def test_a_thief_of_the_key_makes_no_certificate_of_another_name(office: Authority, name: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        admit(office, forged(office, Purpose.DEVICE, name))


@pytest.mark.parametrize("address", [HEAD_END, "10.1.0.2", "::1", "utility.example.org", "r001.example.org"])
def test_a_thief_of_the_key_makes_no_broker_of_another_address(office: Authority, address: str) -> None:
    server = _server(forged(office, Purpose.BROKER, "r001", [address]))
    with pytest.raises(ssl.SSLCertVerificationError, match=r"(permitted|excluded) subtree violation"):
        shake(ClientTls(ca_of(office)).context(), server, address)


def test_a_controller_with_a_host_name_has_no_ip_address(office: Authority) -> None:
    for address in (HEAD_END, "example.org", "utility.example.org"):
        server = _server(forged(office, Purpose.BROKER, "r002", [address], by="r002"))
        with pytest.raises(ssl.SSLCertVerificationError, match=r"(permitted|excluded) subtree violation"):
            shake(ClientTls(ca_of(office)).context(), server, address)


def test_a_thief_of_the_key_makes_no_certificate_of_two_names(office: Authority) -> None:
    assert admit(office, with_two_names(office.out / "two.pem", enrolment(office), "r001", "utility")) == "certificate"


def test_a_thief_of_the_key_makes_no_further_authority(office: Authority) -> None:
    signer = enrolment(office).signer("r001")
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(ConfigError, match="can sign no enrolment authority"):
        signer.delegate(key.public_key(), "r001", [AT], now(), DAY_S)


def test_the_authority_itself_refuses_other_names_addresses_and_long_lives(office: Authority) -> None:
    _, request = key_and_request("utility")
    own = enrolment(office)
    for name in ("utility", "r009"):
        with pytest.raises(ConfigError, match=f"{name}: the enrolment authority has no certificate"):
            own.issue(request, Purpose.DEVICE, name, (), now(), 90)
    with pytest.raises(ConfigError, match=r"r001: the enrolment authority can't issue for the address 10\.0\.0\.1"):
        own.issue(request, Purpose.BROKER, "r001", (AT, HEAD_END), now(), 90)
    with pytest.raises(ConfigError, match="no request for a certificate"):
        own.issue(b"nonsense", Purpose.DEVICE, "r001", (), now(), 90)
    (leaf, _) = details_of(own.issue(request, Purpose.DEVICE, "r001", (), now(), 4000).encode())
    assert leaf.names == ("r001",), "whatever the request says"
    assert leaf.ends <= now() + 90 * DAY_S


def test_revoking_a_controllers_enrolment_ends_all_that_it_issued_and_the_next_does_not_revive_it(
    office: Authority,
) -> None:
    gateway, mate = joined(office, Purpose.DEVICE), joined(office, Purpose.DEVICE, "r002")
    broker = joined(office, Purpose.BROKER, addresses=[LOCAL])
    lists = office.out / "head-end" / "revoked.pem"
    assert len(office.revoke("r001", "stolen", now(), Purpose.ENROLMENT)) == 1
    assert admit(office, gateway) == "revoked"
    assert admit(office, mate) == "r002"
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get certificate CRL"):
        shake(ClientTls(ca_of(office), None, lists).context(), _server(broker))
    office.enrol(TOWN, now())
    old = gateway.read_text()
    assert admit(office, joined(office, Purpose.DEVICE)) == "r001"
    new = pem(enrolment(office).signer("r001").certificate)
    leaf = old[: old.rindex("-----BEGIN")]
    gateway.write_text(leaf + new)
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        admit(office, gateway)


def test_what_an_ended_enrolment_certificate_issues_is_refused(
    office: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = enrolment(office).signer("r001")
    path = office.out / "long.pem"
    path.write_text(signer.issue(Purpose.DEVICE, "r001", (), now(), 10 * 365 * DAY_S)[1] + pem(signer.certificate))
    assert admit(office, path) == "r001"
    ended = float(now() + 3 * 365 * DAY_S)
    monkeypatch.setattr("time.time", lambda: ended)
    assert admit(office, path) == "revoked"


def test_revoking_all_of_it_ends_its_key(office: Authority) -> None:
    gateway, key = joined(office, Purpose.DEVICE), enrolment(office).key
    serials = {entry.serial for entry in office.issued if entry.kind is Purpose.ENROLMENT}
    assert len(office.revoke_these(serials, "utility broken into", now())) == 2
    assert admit(office, gateway) == "revoked"
    assert serials <= revoked_serials((office.out / "head-end/revoked.pem").read_bytes(), ca_of(office).read_bytes())
    office.enrol(TOWN, now())
    assert enrolment(office).key != key


def test_it_is_made_again_for_other_addresses_and_in_its_last_third_alone(office: Authority) -> None:
    assert office.enrol(TOWN, now() + 365 * DAY_S) == []
    moved = TOWN | {"r002": ("r002.example.org", "10.1.0.2")}
    assert [entry.name for entry in office.enrol(moved, now())] == ["r002"]
    assert len(office.enrol(moved, now() + 800 * DAY_S)) == 2
    assert len(enrolment(office).certificates) == 5, "earlier ones stay valid"
    assert Authority.load(office.out).renew(now() + 800 * DAY_S, 400 * DAY_S, ["utility"])


def test_an_authority_of_an_earlier_release_says_that_it_can_not(tmp_path: Path) -> None:
    made = authority(tmp_path / "out")
    old = x509.load_pem_x509_certificate(pem(made._signer.certificate).encode())
    builder = x509.CertificateBuilder(old.issuer, old.subject, old.public_key(), old.serial_number)
    builder = builder.not_valid_before(old.not_valid_before_utc).not_valid_after(old.not_valid_after_utc)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    made._signer = Signer(builder.sign(made._signer.key, hashes.SHA256()), made._signer.key)
    with pytest.raises(ConfigError, match=r"before 0\.4 and can sign no enrolment authority"):
        made.enrol(TOWN, now())
    assert not (made.out / "authority" / "enrolment.pem").exists()


def test_a_chain_is_checked_whole(office: Authority) -> None:
    ca, revoked = ca_of(office).read_bytes(), (office.out / "head-end" / "revoked.pem").read_bytes()
    own = joined(office, Purpose.DEVICE).read_bytes()
    check_issued(own, ca, revoked, "r001")
    with pytest.raises(ConfigError, match="not of r002"):
        check_issued(forged(office, Purpose.DEVICE, "r002").read_bytes(), ca, revoked, "r002")
    office.revoke("r001", "stolen", now(), Purpose.ENROLMENT)
    with pytest.raises(ConfigError, match="was revoked"):
        check_issued(own, ca, (office.out / "head-end" / "revoked.pem").read_bytes(), "r001")


T = 1_790_000_000
CUTS = 50  # random moments of a power cut, for each way that a renewal may go


@pytest.fixture
def town(tmp_path: Path) -> CareTown:
    return CareTown(tmp_path, ["r001", "r002"], T)


def renew(town: CareTown, file: CertificateFile) -> None:
    file.take(town.post("/renew", file.request()))


def works(file: CertificateFile) -> None:
    """Check that key and certificate fit: TLS takes no others."""
    own(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), file.path)


def beside(file: CertificateFile) -> set[str]:
    names = {path.name.removeprefix(file.path.name) for path in file.path.parent.iterdir()}
    return names & {".new-key", ".next", ".before"}


def test_renewals_are_due_from_two_thirds_of_the_life_on_and_spread(tmp_path: Path) -> None:
    town = CareTown(tmp_path, [f"r{number:03}" for number in range(40)], T)
    due = [(town.file(f"r{number:03}").due() - T) / DAY_S for number in range(40)]
    assert 90 * DUE - 0.1 <= min(due) < 90 * DUE + 1
    assert 90 * (DUE + SPREAD) - 1 < max(due) <= 90 * (DUE + SPREAD)
    assert max(due) < 90 - 21, "before the alarm of 21 days"


def test_the_old_certificate_stays_until_the_new_one_has_connected(town: CareTown) -> None:
    file = town.file("r001")
    old = file.path.read_bytes()
    town.now += 61 * DAY_S
    renew(town, file)
    works(file)
    assert file.is_on_trial
    assert file.path.with_name("device.pem.before").read_bytes() == old
    file.confirm()
    assert (file.is_on_trial, beside(file)) == (False, set())
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_a_new_certificate_that_does_not_connect_gives_way_to_the_old_one(town: CareTown) -> None:
    file = town.file("r001")
    old = file.path.read_bytes()
    renew(town, file)
    assert file.go_back(T + 89 * DAY_S)
    assert (file.path.read_bytes(), beside(file)) == (old, set())


def test_an_old_certificate_that_has_ended_comes_back_no_more(town: CareTown) -> None:
    file = town.file("r001")
    renew(town, file)
    new = file.path.read_bytes()
    assert not file.go_back(T + 90 * DAY_S)
    assert (file.path.read_bytes(), file.is_on_trial) == (new, True)


def test_a_lost_answer_changes_nothing_and_the_next_request_has_the_same_key(town: CareTown) -> None:
    file = town.file("r001")
    old = file.path.read_bytes()
    first = file.request()
    town.post("/renew", first)
    assert file.path.read_bytes() == old
    key = file.path.with_name("device.pem.new-key").read_bytes()
    renew(town, file)
    assert file.path.read_bytes().startswith(key)


def test_each_renewal_has_a_key_of_its_own(town: CareTown) -> None:
    file = town.file("r001")
    keys = set()
    for _ in range(3):
        renew(town, file)
        keys.add(file.path.read_bytes().partition(b"-----BEGIN CERTIFICATE")[0])
    assert len(keys) == 3


def test_a_request_has_no_key(town: CareTown) -> None:
    file = town.file("r001")
    file.path.write_bytes(file.path.read_bytes() * 2)  # The key between certificates, as by a person's hand.
    assert "PRIVATE" not in str(file.request())


@pytest.mark.parametrize("other", ["another key", "another name", "another town", "nothing"])
def test_another_answer_changes_nothing(town: CareTown, tmp_path: Path, other: str) -> None:
    file, mate = town.file("r001"), town.file("r002")
    file.request()
    (tmp_path / "b").mkdir()
    foreign = CareTown(tmp_path / "b", ["r001"], T).file("r001").path.read_text()
    answers: dict[str, dict[str, object]] = {
        "another key": {"certificate": file.path.read_text()},
        "another name": town.post("/renew", mate.request()),
        "another town": {"certificate": foreign},
        "nothing": {},
    }
    old = file.path.read_bytes()
    with pytest.raises(ConfigError):
        file.take(answers[other])
    assert (file.path.read_bytes(), file.is_on_trial) == (old, False)


def test_a_forged_answer_changes_no_list(town: CareTown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a certificate that nobody issued, which begins in 2090, each list could be said to have ended."""
    monkeypatch.setattr("commonwatt.identity.renewing.merged", lambda *_: b"")
    file = replace(town.file("r001"), revoked=town.file("r001").ca.with_name("revoked.pem"))
    file.request()
    (tmp_path / "b").mkdir()
    forged = CareTown(tmp_path / "b", ["r001"], 3_800_000_000).file("r001").path.read_text()
    assert file.revoked is not None
    before = file.revoked.read_bytes()
    with pytest.raises(ConfigError):
        file.take({"certificate": forged, "revoked": "", "issuers": ""})
    assert file.revoked.read_bytes() == before != b""


@pytest.mark.real
@pytest.mark.parametrize("ends", ["confirm", "go_back"])
def test_a_power_cut_at_any_moment_leaves_a_working_pair(town: CareTown, tmp_path: Path, ends: str) -> None:
    folder, ca = tmp_path / "r001", tmp_path / "ca.pem"
    folder.mkdir()
    first = town.file("r001")
    file = CertificateFile(folder / "gateway.pem", ca, "r001")
    shutil.copy(first.path, file.path)
    shutil.copy(first.ca, ca)
    recorder = Recorder(build(tmp_path), folder, tmp_path / "trace")
    script = [sys.executable, "-m", "harness.care.one_renewal", str(file.path), str(ca)]
    script += [str(town.folder / "authority"), str(T + DAY_S), ends]
    subprocess.run(script, env=os.environ | recorder.environment(), check=True)
    positions = [position for position, _ in records(recorder.trace())]
    assert DiskKind.LINKED in {record.kind for _, record in records(recorder.trace())}
    rng = random.Random(1)
    for number in range(CUTS):
        # Each operation once, then random ones.
        until = positions[number] if number < len(positions) else rng.choice(positions)
        disk = Disk(recorder.base, number)
        for position, record in records(recorder.trace()):
            if position <= until:
                disk.feed(record)
        for path in folder.iterdir():
            path.unlink()
        for name, content in disk.after_cut(rng).items():
            Path(name).write_bytes(content)
        works(file)  # What a service finds at its start, before the gateway looks.
        file.settle()
        works(file)
        if file.is_on_trial:
            file.confirm()
        town.renewals._allowances.clear()
        renew(town, file)
        file.confirm()
        works(file)
        assert beside(file) == set()
