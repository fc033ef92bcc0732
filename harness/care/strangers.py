"""Strangers at a town's care listener: each must be refused, and its alarm stand on the utility's board."""

import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from commonwatt.care.connection import CareConnection, CareRefused
from commonwatt.care.joining import PATH, REQUEST
from commonwatt.care.sealing import CodeSecrets, mac
from commonwatt.care.words import Code
from commonwatt.identity import renewing
from commonwatt.identity.renewing import CertificateFile
from harness.care.fleet import Fleet
from harness.network.waiting import eventually
from utility.alarms.alarm import PREFIX
from utility.care.api.listener import CareRequest, Listener

JOIN, RENEWAL = "JoinRefused", "RenewalRefused"


@dataclass(frozen=True, kw_only=True)
class Try:
    """What a stranger does."""

    what: str  # who it is and what it does
    does: Callable[[Fleet], str]  # does it; returns the refusal, empty: it was let in
    refusal: str  # words of the refusal
    alarm: str = JOIN  # the alarm that it raises; empty: the utility hears nothing of it


def tries(fleet: Fleet) -> Iterator[str]:
    """Let each stranger try; yield a table's lines."""
    yield "| stranger | refused | alarm on the board |"
    yield "|---|---|---|"
    for one in TRIES:
        refusal = one.does(fleet)
        assert one.refusal in refusal, f"{one.what}: {refusal or 'let in'}"
        if one.alarm:
            eventually(partial(_stands, fleet, one))
        words = " ".join(refusal.replace("│", "").split())
        yield f"| {one.what} | {words} | {one.alarm or 'none: the utility was not asked'} |"


def _stands(fleet: Fleet, one: Try) -> bool:
    """Return whether the board has the alarm of a refusal."""
    return one.refusal in fleet.board(PREFIX + one.alarm)


def _by_words(fleet: Fleet, machine: str, code: Code, utility: str) -> str:
    """Join by words with new keys, in a new folder."""
    folder = fleet.folder / f"stranger-{secrets.token_hex(4)}"
    folder.mkdir()
    return fleet.joins(machine, folder, [*code.words.split(), "--utility", utility])


def _used(fleet: Fleet, name: str, machine: str) -> str:
    return _by_words(fleet, machine, fleet.invitation(name).code, fleet.machines.addresses["utility"])


def _guessed(fleet: Fleet) -> str:
    code = Code.new(fleet.invitation("r001").fingerprint)
    return _by_words(fleet, "elsewhere", code, fleet.machines.addresses["utility"])


def _labelled(fleet: Fleet, *names: str) -> None:
    """Make further labels of controllers, and let the utility know them."""
    fleet.type("utility", "office", ["site", "labels", *names])
    fleet.carry_to_utility()


def _ended(fleet: Fleet) -> str:
    _labelled(fleet, "r003", "r004", "r005")
    code = fleet.invitation("r003").code
    fleet.type("utility", "office", ["site", "labels", "--revoke", "r003"])
    fleet.carry_to_utility()
    return _by_words(fleet, "elsewhere", code, fleet.machines.addresses["utility"])


def _forged(fleet: Fleet, *, shows_ours: bool) -> str:
    """Ask a utility of another town, which has its own authority, and perhaps shows ours."""
    other, address = fleet.folder / f"forged-{shows_ours}", fleet.machines.addresses["forged"]
    (other / "site").mkdir(parents=True)
    own = fleet.site_file().replace(f'utility = "{fleet.machines.addresses["utility"]}"', f'utility = "{address}"', 1)
    (other / "site/site.toml").write_text(own)
    words = [sys.executable, "-m", "commonwatt", "site", "init"]
    subprocess.run(words, cwd=other, check=True, capture_output=True)
    ca = ((fleet.site if shows_ours else other / "site") / "authority/ca.pem").read_bytes()
    asked: list[CareRequest] = []

    def joins(request: CareRequest) -> dict[str, Any]:
        asked.append(request)
        return {}

    certificate = other / "site/head-end/broker.pem"
    make = partial(Listener, f"{address}:8444", certificate, {("GET", "ca"): lambda _: ca, ("POST", PATH): joins})
    listener = fleet.machines.inside("forged", make)
    fleet.machines.inside("forged", listener.start)
    try:
        return _by_words(fleet, "r084", fleet.invitation("r004").code, address)
    finally:
        listener.stop()
        assert not asked, "the forged utility was shown a code"


def _stolen_first(fleet: Fleet) -> str:
    """Let a thief use the open code of r004 before its installer; return what the installer is told."""
    assert not _used(fleet, "r004", "elsewhere"), "the thief has the code"
    return _used(fleet, "r004", fleet.machine_of["r004"])


def _in_anothers_name(fleet: Fleet) -> str:
    """Ask with the open code of r005 for certificates of r006."""
    invitation, ca = fleet.invitation("r005"), fleet.site / "authority/ca.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "r006")])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    text = made.public_bytes(serialization.Encoding.PEM).decode()
    own = CodeSecrets.of(invitation.code, invitation.fingerprint)
    asked: dict[str, object] = {"gateway": text, "broker": text, "code": own.lookup, "nonce": secrets.token_hex(16)}
    return _post(
        fleet,
        fleet.machine_of["r005"],
        CareConnection(invitation.addresses, ca),
        PATH,
        asked | {"mac": mac(own.verifier, REQUEST, asked)},
    )


def _knows_the_name_alone(fleet: Fleet) -> str:
    """Repeat the name of an open code, as a thief of the line could that broke TLS, without its secret."""
    invitation, ca = fleet.invitation("r005"), fleet.site / "authority/ca.pem"
    own = CodeSecrets.of(invitation.code, invitation.fingerprint)
    asked: dict[str, object] = dict.fromkeys(("gateway", "broker", "nonce"), "x")
    return _post(
        fleet, "elsewhere", CareConnection(invitation.addresses, ca), PATH, {**asked, "code": own.lookup, "mac": "00"}
    )


def _renews_anothers(fleet: Fleet, *, is_copied: bool) -> str:
    """Ask with the certificate of r007 for one of r008; with a copy of its chain alone, signed by another key."""
    folder = fleet.folder / f"renewal-{is_copied}"
    folder.mkdir()
    place = fleet.folder / "r007/root/var/lib/commonwatt/r007"
    for name in ("gateway.pem", "ca.pem"):
        shutil.copy(place / name, folder)
    file = CertificateFile(folder / "gateway.pem", folder / "ca.pem", "r007" if is_copied else "r008")
    request = file.request()
    if is_copied:
        request |= {"name": "r008"}
    connection = CareConnection(fleet.invitation("r007").addresses, folder / "ca.pem")
    return _post(fleet, "elsewhere" if is_copied else fleet.machine_of["r007"], connection, renewing.PATH, request)


def _post(fleet: Fleet, machine: str, connection: CareConnection, path: str, content: dict[str, object]) -> str:
    def do() -> str:
        try:
            connection.post(f"/{path}", content)
        except CareRefused as error:
            return str(error)
        return ""

    return fleet.machines.inside(machine, do)


TRIES = (
    Try(
        what="a stolen code, used from elsewhere after its use",
        does=lambda fleet: _used(fleet, "r001", "elsewhere"),
        refusal="used code of r001, by another key: one of both may be a thief's",
    ),
    Try(
        what="a used code, used again on its own controller",
        does=lambda fleet: _used(fleet, "r082", "r082"),
        refusal="used code of r082, by another key",
    ),
    Try(what="a guessed code of this town", does=_guessed, refusal="unknown code"),
    Try(what="a code that the office ended", does=_ended, refusal="the code of r003 ended"),
    Try(
        what="the name of an open code, without the code",
        does=_knows_the_name_alone,
        refusal="wrong MAC: a machine that knows of the code of r005 does not have it",
    ),
    Try(
        what="a forged utility, of another authority",
        does=lambda fleet: _forged(fleet, shows_ours=False),
        refusal="is not your town's utility",
        alarm="",
    ),
    Try(
        what="a forged utility that shows our authority's certificate",
        does=lambda fleet: _forged(fleet, shows_ours=True),
        refusal="certificate verify failed",
        alarm="",
    ),
    Try(
        what="the installer, after a thief used the stolen code first",
        does=_stolen_first,
        refusal="used code of r004, by another key: one of both may be a thief's",
    ),
    Try(
        what="a member that joins in another's name",
        does=_in_anothers_name,
        refusal="another's name: r006 was asked for with the code of r005",
    ),
    Try(
        what="a member that renews in another's name",
        does=lambda fleet: _renews_anothers(fleet, is_copied=False),
        refusal="device r007 asks in the name of 'r008'",
        alarm=RENEWAL,
    ),
    Try(
        what="a copied request of a member, with another's name in it",
        does=lambda fleet: _renews_anothers(fleet, is_copied=True),
        refusal="the signature does not fit",
        alarm=RENEWAL,
    ),
)
