"""Renewals: each controller and its broker get the next certificate for their own name, and no other."""

import ssl
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID

from commonwatt.identity.certificates import Purpose, Signer, authoritys_list, details_of, listed_issuers, pem
from commonwatt.identity.chains import check_issued, enrolled, kind_of
from commonwatt.identity.renewing import PURPOSE, CertificateFile, signed_content
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.tls import ClientTls, own
from harness.care.certificates import ADDRESSES, DAY_S, CareTown, authority, certificate, now
from tests.unit.commonwatt.test_tls import shake
from utility.care.api.listener import CareRefusal, CareRequest
from utility.care.api.routes import AT_ONCE, EACH_S, enrolment_ends

T = 1_790_000_000
NAMES = ["r001", "r002"]


@pytest.fixture
def town(tmp_path: Path) -> CareTown:
    return CareTown(tmp_path, NAMES, T)


def ask(town: CareTown, content: dict[str, Any]) -> dict[str, Any]:
    return town.renewals.renew(CareRequest(address="10.0.0.9", content=content))


def refused(town: CareTown, content: dict[str, Any], result: str) -> str:
    """Return the text of a request that must be refused, as the alarm and the controller's log have it."""
    with pytest.raises(CareRefusal) as refusal:
        ask(town, content)
    assert refusal.value.result == result
    return str(refusal.value)


@pytest.mark.parametrize(("kind", "name", "days"), [("device", "r001", 90), ("broker", "r002", 365)])
def test_a_certificate_is_renewed_for_its_own_name(town: CareTown, kind: str, name: str, days: int) -> None:
    file = town.file(name, Purpose(kind))
    town.now += 61 * DAY_S
    file.take(ask(town, file.request()))
    content = file.path.read_bytes()
    check_issued(content, file.ca.read_bytes(), None, name)
    stated, *_ = details_of(content)
    assert (kind_of(content), stated.ends) == (kind, town.now + days * DAY_S)
    assert set(stated.names) == {name, *(ADDRESSES if kind == "broker" else ())}


def test_a_renewed_certificate_is_renewed_again(town: CareTown) -> None:
    file = town.file("r001")
    for _ in range(5):
        town.now = file.due()
        file.take(ask(town, file.request()))
    assert details_of(file.path.read_bytes())[0].ends > T + 300 * DAY_S


def test_the_same_request_again_gives_a_certificate_of_the_same_key_alone(town: CareTown) -> None:
    file = town.file("r001")
    request = file.request()
    key = file.path.with_name("device.pem.new-key").read_bytes()
    for _ in range(2):
        Signer.load(str(ask(town, request)["certificate"]).encode(), key)


def made(file: CertificateFile, **other: str) -> dict[str, Any]:
    """Return a request of a file's owner that signs something else than an honest one does."""
    content: dict[str, Any] = file.request() | other
    pair = file.path.read_bytes()
    signature = Signer.load(pair, pair).signature(PURPOSE, signed_content(content["name"], content["request"]))
    return content | {"signature": signature.hex()}


def test_a_member_that_asks_in_anothers_name_is_refused_and_named(town: CareTown) -> None:
    text = refused(town, made(town.file("r001"), name="r002"), "name")
    assert text == "device r001 asks in the name of 'r002'"


def test_a_request_of_no_key_is_refused_though_it_is_signed(town: CareTown) -> None:
    assert "no request" in refused(town, made(town.file("r001"), request="no key"), "authority")


@pytest.mark.parametrize("name", ["utility", "plant", "r009", "10001"])
def test_what_is_no_registered_controller_is_refused(town: CareTown, name: str) -> None:
    assert f"device {name}" in refused(town, town.file(name).request(), "unregistered")


def test_the_head_ends_broker_is_not_renewed_from_afar(town: CareTown) -> None:
    refused(town, town.file("head-end", Purpose.BROKER).request(), "unregistered")


def test_a_revoked_certificate_is_refused(town: CareTown) -> None:
    file = town.file("r001")
    town.office.revoke("r001", "stolen", T)
    assert "was revoked" in refused(town, file.request(), "revoked")


def test_a_revoked_controller_is_refused(town: CareTown) -> None:
    file = town.file("r001")
    town.revoke_device("r001")
    assert "r001 was revoked: stolen" in refused(town, file.request(), "revoked")


def test_what_a_revoked_enrolment_certificate_signed_is_refused(town: CareTown) -> None:
    file = town.file("r001")
    file.take(ask(town, file.request()))
    town.office.revoke("r001", "stolen", T, Purpose.ENROLMENT)
    refused(town, file.request(), "revoked")


def test_half_a_year_after_its_end_a_certificate_can_still_be_renewed_and_no_longer(town: CareTown) -> None:
    file = town.file("r001")
    town.now = T + (90 + 180) * DAY_S + 1
    assert "too long ago" in refused(town, file.request(), "ended")
    town.now -= 1
    file.take(ask(town, file.request()))
    assert details_of(file.path.read_bytes())[0].ends == town.now + 90 * DAY_S


def test_a_certificate_of_another_town_is_refused(town: CareTown, tmp_path: Path) -> None:
    path = certificate(authority(tmp_path / "other", at=T), Purpose.DEVICE, "r001", at=T)
    refused(town, CertificateFile(path, path.with_name("ca.pem"), "r001").request(), "malformed")


def test_a_stolen_certificate_without_its_key_is_worth_nothing(town: CareTown) -> None:
    theirs = town.file("r002").request()
    mine = made(town.file("r001"), name="r002", request=str(theirs["request"]))
    refused(town, mine | {"certificate": theirs["certificate"]}, "malformed")


@pytest.mark.parametrize("key", ["name", "request", "certificate", "signature"])
@pytest.mark.parametrize(
    "bad", [None, 1, "", "x" * 9000, [], {}, "é", "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----"]
)
def test_a_malformed_request_is_refused(town: CareTown, key: str, bad: object) -> None:
    refused(town, town.file("r001").request() | {key: bad}, "malformed")


def test_a_name_asks_a_few_times_a_day_at_most(town: CareTown) -> None:
    file, other = town.file("r001"), town.file("r002")
    for _ in range(AT_ONCE):
        ask(town, file.request())
    refused(town, file.request(), "often")
    ask(town, other.request())
    town.now += EACH_S
    ask(town, file.request())


def test_without_a_synchronized_clock_nothing_is_issued(town: CareTown) -> None:
    town.trusted = False
    refused(town, town.file("r001").request(), "clock")


@pytest.mark.parametrize("name", ["authority/enrolment.pem", "head-end/devices.json", "authority/revoked.pem"])
def test_a_missing_file_is_named(town: CareTown, name: str) -> None:
    file = town.file("r001")
    (town.folder / name).unlink()
    assert name in refused(town, file.request(), "authority")


def test_the_alarm_counts_to_the_end_of_the_first_controllers_newest_certificate(town: CareTown) -> None:
    settings = town.renewals.settings
    assert enrolment_ends(settings) == T + 3 * 365 * DAY_S
    town.now += 365 * DAY_S
    for name in ("r001", "r002"):
        town.enrol({name: (*ADDRESSES, "10.1.0.9")})
        assert enrolment_ends(settings) == T + (3 if name == "r001" else 4) * 365 * DAY_S
    (town.folder / "authority/enrolment.pem").unlink()
    assert enrolment_ends(settings) is None


def garbage() -> bytes:
    """Return a certificate with one extension twice, which cryptography makes only by a trick."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, begin = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "r001")]), datetime(2026, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 7, begin, begin)
    one = x509.Extension(ExtensionOID.BASIC_CONSTRAINTS, critical=True, value=x509.BasicConstraints(False, None))
    made._extensions = [one, one]
    return pem(made.sign(key, hashes.SHA256())).encode()


@pytest.mark.parametrize("certificate", ["", "\ud800", "twice"])
def test_malformed_requests_are_refused_by_name_and_raise_no_alarm(town: CareTown, certificate: str) -> None:
    if certificate == "twice":
        with pytest.raises(ConfigError, match="no certificate"):
            details_of(garbage())
        return
    with pytest.raises(CareRefusal) as refusal:
        ask(town, made(town.file("r001")) | {"certificate": certificate})
    assert (refusal.value.result, refusal.value.of) == ("malformed", None)


def lists(file: CertificateFile) -> CertificateFile:
    """Return a certificate file of a controller with revocation lists."""
    return replace(file, revoked=file.ca.with_name("revoked.pem"))


def is_believed(file: CertificateFile) -> bool:
    """Return whether a client of the same machine accepts a broker's certificate, by a real handshake."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own(server, file.path)
    try:
        shake(ClientTls(file.ca, revoked=file.revoked).context(), server, ADDRESSES[1])
    except ssl.SSLCertVerificationError:
        return False
    return True


@pytest.fixture
def today(tmp_path: Path) -> CareTown:
    """Return a town of today: OpenSSL looks at the clock."""
    return CareTown(tmp_path / "today", NAMES, now())


def test_a_renewal_brings_the_lists_of_newer_enrolment_certificates(today: CareTown) -> None:
    mate = lists(today.file("r002", Purpose.BROKER))
    file = lists(today.file("r001", Purpose.BROKER))
    assert file.revoked is not None
    before = file.revoked.read_bytes()
    today.enrol(dict.fromkeys(NAMES, (*ADDRESSES, "10.1.0.9")))
    file.revoked.write_bytes(before)  # No bundle came: the controller has the lists of the day it joined.
    file.take(ask(today, file.request()))
    assert is_believed(file)
    assert len(listed_issuers(file.revoked.read_bytes())) == len(listed_issuers(before)) + 2, "its mate's, too"
    mate.take(ask(today, mate.request()))
    assert is_believed(replace(mate, revoked=file.revoked))
    seen = file.revoked.stat().st_ino
    without = ask(today, file.request())
    file.take(without | {"revoked": authoritys_list(file.revoked.read_bytes())})
    assert file.revoked.stat().st_ino == seen, "a utility of an older backup takes no list away"
    file.take(ask(today, file.request()))
    assert file.revoked.stat().st_ino == seen, "what says the same is not written again"


def test_a_renewal_brings_revocations(today: CareTown) -> None:
    file, mate = lists(today.file("r001", Purpose.BROKER)), lists(today.file("r002", Purpose.BROKER))
    mate.take(ask(today, mate.request()))
    assert file.revoked is not None
    before = file.revoked.read_bytes()
    today.office.revoke("r002", "stolen", today.now, Purpose.ENROLMENT)
    file.revoked.write_bytes(before)
    assert is_believed(replace(mate, revoked=file.revoked))
    file.take(ask(today, file.request()))
    assert not is_believed(replace(mate, revoked=file.revoked))
    assert is_believed(file)


def test_an_answer_that_lacks_lists_takes_none_of_a_lawful_controller_away(tmp_path: Path) -> None:
    """Without its mate's list a gateway would refuse the mate's broker."""
    town = CareTown(tmp_path, [*NAMES, "r003"], now())
    file, mate = lists(town.file("r001", Purpose.BROKER)), lists(town.file("r002", Purpose.BROKER))
    mate.take(ask(town, mate.request()))
    assert file.revoked is not None
    before = file.revoked.read_bytes()
    assert enrolled(before) == [*NAMES, "r003"]
    town.office.revoke("r003", "stolen", town.now, Purpose.ENROLMENT)
    file.revoked.write_bytes(before)
    answer = ask(town, file.request())
    file.take(answer | {"revoked": authoritys_list(answer["revoked"].encode()).rstrip()})
    assert is_believed(replace(mate, revoked=file.revoked))
    assert enrolled(file.revoked.read_bytes()) == NAMES, "only the revoked one's list is gone"


@pytest.mark.parametrize("other", ["older", "another town's", "of a revoked one", "of none", "no lists"])
def test_lists_that_are_not_good_are_left_and_the_certificate_is_renewed(
    today: CareTown, tmp_path: Path, other: str
) -> None:
    file = lists(today.file("r001"))
    assert file.revoked is not None
    good = ask(today, lists(today.file("r001", Purpose.BROKER)).request())
    foreign = CareTown(tmp_path / "foreign", NAMES, today.now)
    today.office.revoke("r002", "stolen", today.now, Purpose.ENROLMENT)
    present = file.revoked.read_bytes()
    answer = ask(today, file.request())
    root = authoritys_list(present)
    lists_of_other = {
        "older": {"revoked": good["revoked"], "issuers": good["issuers"]},
        "another town's": {"revoked": (foreign.folder / "authority/revoked.pem").read_text(), "issuers": ""},
        # As a thief of the enrolment authority makes it, whose certificate was revoked.
        "of a revoked one": {"revoked": root + good["revoked"].partition("-----END X509 CRL-----\n")[2]},
        "of none": {"issuers": ""},
        "no lists": {"revoked": "nothing", "issuers": 7},
    }
    file.take({**good, **answer, **lists_of_other[other]})
    assert file.revoked.read_bytes() == present
    assert file.is_on_trial


def test_a_certificate_of_a_revoked_issuer_is_not_taken(today: CareTown) -> None:
    file = lists(today.file("r001"))
    answer = ask(today, file.request())
    today.office.revoke("r001", "stolen", today.now, Purpose.ENROLMENT)
    with pytest.raises(ConfigError, match="was revoked"):
        file.take(answer)


def test_nothing_is_issued_under_a_revoked_enrolment_certificate_that_the_utility_still_has(town: CareTown) -> None:
    file, kept = town.file("r001"), (town.folder / "authority/enrolment.pem").read_bytes()
    town.office.revoke("r001", "stolen", T, Purpose.ENROLMENT)
    (town.folder / "authority/enrolment.pem").write_bytes(kept)
    refused(town, file.request(), "authority")
