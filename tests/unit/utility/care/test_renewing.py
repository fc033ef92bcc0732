"""Renewals: each controller, its broker and its meters get the next certificate for their own name, and no other."""

from dataclasses import replace
from pathlib import Path

import pytest

from commonwatt.care.connection import CareRefused
from commonwatt.identity.certificates import Kind, Signer, details_of
from commonwatt.identity.chains import check_issued
from commonwatt.identity.renewal_requests import PURPOSE, Known, RenewalRequest, new_key
from harness.care.town import ADDRESSES, CareTown
from harness.real.enrolled import DAY_S, authority, certificate
from utility.care.api.listener import CareRequest, Refused
from utility.care.renewing import AT_ONCE, EACH_S

T = 1_790_000_000
NAMES = ["r001", "r002"]


@pytest.fixture
def town(tmp_path: Path) -> CareTown:
    return CareTown(tmp_path, NAMES, T, meters=[10001])


def ask(town: CareTown, request: RenewalRequest) -> str:
    return str(town.post("/renew", vars(request))["certificate"])


@pytest.mark.parametrize(
    ("kind", "name", "days"), [("device", "r001", 90), ("broker", "r002", 365), ("device", "10001", 90)]
)
def test_a_certificate_is_renewed_for_its_own_name(town: CareTown, kind: str, name: str, days: int) -> None:
    file = town.file(name, Kind(kind))
    town.now += 61 * DAY_S
    file.take(town.post("/renew", vars(file.request())))
    check_issued(file.path.read_bytes(), file.ca.read_bytes(), None, name)
    known = file.known()
    assert (known.name, known.kind, known.ends) == (name, kind, town.now + days * DAY_S)
    addresses = ADDRESSES if kind == "broker" else ()
    assert set(details_of(file.path.read_bytes())[0].names) == {name, *addresses}
    assert (town.renewals.results, town.renewals.refused()) == ({"renewed": 1}, ())


def test_a_renewed_certificate_is_renewed_again(town: CareTown) -> None:
    file = town.file("r001")
    for _ in range(5):
        town.now = file.due()
        file.take(town.post("/renew", vars(file.request())))
    assert file.known().ends > T + 300 * DAY_S


def test_the_same_request_is_answered_for_the_same_key_alone(town: CareTown) -> None:
    file = town.file("r001")
    request = file.request()
    keys = {Known.read(ask(town, request).encode(), file.ca.read_bytes()).key for _ in range(2)}
    assert len(keys) == 1
    assert file.request().request.splitlines()[0] == request.request.splitlines()[0]
    file.take({"certificate": ask(town, file.request())})
    assert {file.known().key} == keys


def refused(town: CareTown, request: RenewalRequest, result: str) -> str:
    """Return the alarm's text of a request that must be refused."""
    with pytest.raises(CareRefused):
        ask(town, request)
    assert town.renewals.results == {result: 1}
    return "".join(town.renewals.refused())


def test_a_member_that_asks_in_anothers_name_is_refused_and_named(town: CareTown) -> None:
    pair = town.file("r001").path.read_bytes()
    text = refused(town, RenewalRequest.make("r002", Kind.DEVICE, pair, new_key()), "name")
    assert "device r001 from 10.0.0.9" in text
    assert "device 'r002'" in text


def test_a_device_that_asks_for_a_brokers_certificate_is_refused(town: CareTown) -> None:
    pair = town.file("r001").path.read_bytes()
    assert "broker 'r001'" in refused(town, RenewalRequest.make("r001", Kind.BROKER, pair, new_key()), "name")


@pytest.mark.parametrize("name", ["utility", "plant", "r009", "20002"])
def test_what_is_no_registered_controller_or_meter_is_refused(town: CareTown, name: str) -> None:
    assert name in refused(town, town.file(name).request(), "unregistered")


def test_the_head_ends_broker_is_not_renewed_from_afar(town: CareTown) -> None:
    assert refused(town, town.file("head-end", Kind.BROKER).request(), "unregistered")


def test_a_revoked_certificate_is_refused(town: CareTown) -> None:
    file = town.file("r001")
    town.office.revoke("r001", "stolen", T)
    assert "was revoked" in refused(town, file.request(), "revoked")


@pytest.mark.parametrize("name", ["r001", "10001"])
def test_a_revoked_controller_and_its_meters_are_refused(town: CareTown, name: str) -> None:
    file = town.file(name)
    town.revoke_device("r001")
    assert "r001 was revoked: stolen" in refused(town, file.request(), "revoked")


def test_what_a_revoked_enrolment_certificate_signed_is_refused(town: CareTown) -> None:
    file = town.file("r001")
    file.take(town.post("/renew", vars(file.request())))
    town.renewals.results.clear()
    town.office.revoke("r001", "stolen", T, Kind.ENROLMENT)
    refused(town, file.request(), "revoked")


def test_half_a_year_after_its_end_a_certificate_can_still_be_renewed_and_no_longer(town: CareTown) -> None:
    file = town.file("r001")
    town.now = T + (90 + 180) * DAY_S + 1
    assert "too long ago" in refused(town, file.request(), "ended")
    town.now -= 1
    file.take(town.post("/renew", vars(file.request())))
    assert file.known().ends == town.now + 90 * DAY_S


def test_a_certificate_of_another_town_is_refused_without_an_alarm(town: CareTown, tmp_path: Path) -> None:
    pair = certificate(authority(tmp_path / "other", at=T), Kind.DEVICE, "r001", at=T).read_bytes()
    assert not refused(town, RenewalRequest.make("r001", Kind.DEVICE, pair, new_key()), "malformed")


def test_a_stolen_certificate_without_its_key_is_worth_nothing(town: CareTown) -> None:
    mine, theirs = town.file("r001").request(), town.file("r002").request()
    forged = vars(mine) | {"certificate": theirs.certificate, "name": "r002"}
    assert not refused(town, RenewalRequest(**forged), "malformed")


@pytest.mark.parametrize("key", ["name", "kind", "request", "certificate", "signature"])
@pytest.mark.parametrize(
    "bad", [None, 1, "", "x" * 9000, [], "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
def test_a_malformed_request_is_refused(town: CareTown, key: str, bad: object) -> None:
    content = vars(town.file("r001").request()) | {key: bad}
    with pytest.raises(Refused):
        town.renewals.renew(CareRequest(address="10.0.0.9", content=content))
    assert town.renewals.results == {"malformed": 1}


def test_a_request_of_no_key_is_refused_though_it_is_signed(town: CareTown) -> None:
    pair = town.file("r001").path.read_bytes()
    signature = Signer.load(pair, pair).signature(PURPOSE, b"device r001\nno key").hex()
    made = RenewalRequest.make("r001", Kind.DEVICE, pair, new_key())
    assert "no request" in refused(town, replace(made, request="no key", signature=signature), "authority")


def test_a_name_asks_a_few_times_a_day_at_most(town: CareTown) -> None:
    file, other = town.file("r001"), town.file("r002")
    for _ in range(AT_ONCE):
        ask(town, file.request())
    with pytest.raises(CareRefused, match="often"):
        ask(town, file.request())
    ask(town, other.request())
    town.now += EACH_S
    ask(town, file.request())
    assert town.renewals.results == {"renewed": AT_ONCE + 2, "often": 1}


def test_without_a_synchronized_clock_nothing_is_issued(town: CareTown) -> None:
    town.trusted = False
    assert not refused(town, town.file("r001").request(), "clock")


def test_a_missing_enrolment_authority_is_named(town: CareTown) -> None:
    (town.folder / "authority" / "enrolment.pem").unlink()
    assert "enrolment.pem" in refused(town, town.file("r001").request(), "authority")


def test_a_refusal_is_an_alarm_for_a_day(town: CareTown) -> None:
    refused(town, town.file("utility").request(), "unregistered")
    town.now += DAY_S
    assert not town.renewals.refused()
