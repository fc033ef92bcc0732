"""Controllers witness the bills: a utility with two lists is caught by the first street that was told both (U2)."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select

from commonwatt.identity.certificates import Purpose, Signer, details_of, pem
from commonwatt.identity.chains import chain_of, new_key_pem, request_of, requested
from commonwatt.identity.devices import digest
from commonwatt.protocol.controller_commands import WITNESS_PURPOSE, ControllerOutcome, witness_key_text, witnessed_text
from gateway.care.witness import Witness
from harness.billing.worlds import World, tariff
from harness.care.certificates import authority, certificate
from tests.unit.utility.billing.test_billing import NOW, Command, _people, _world, issued, publish
from tests.unit.utility.billing.test_check_bill import _checker
from utility.alarms.store import counted
from utility.billing.proof import BoundKey, check_code, chosen, public_list
from utility.billing.store import witnesses
from utility.billing.store.documents import documents_of
from utility.billing.store.witnesses import ASKED_S
from utility.billing.tables import witness
from utility.database.database import Database
from utility.outbox.store import AGAIN_S
from utility.outbox.tables import command
from utility.registry.tables import controller

people, world, checker = _people, _world, _checker
kind = pytest.fixture(lambda: "sqlite")

MONTH = "2026-10"


class Streets:
    """The controllers of a town, which answer what they are asked."""

    def __init__(self, database: Database, names: list[str], folder: Path) -> None:
        self.database, self.folder, self.office = database, folder, authority(folder)
        with database.writes.begin() as connection:
            known = set(connection.execute(select(controller.c.id)).scalars())
            new = enumerate((name for name in names if name not in known), 101)
            rows = [{"id": name, "number": n, "kind": "residential", "address": "10.0.0.1"} for n, name in new]
            connection.execute(controller.insert(), rows)
        self.each = {name: Witness(folder, name, self.certificate(name)) for name in {*names, *known}}

    def certificate(self, name: str) -> Path:
        """Return a controller's certificate with its key."""
        return certificate(self.office, Purpose.DEVICE, name)

    @property
    def ca(self) -> Path:
        """The certificate of the town's authority."""
        return self.folder / "authority/ca.pem"

    def ask(self, now: int = NOW) -> None:
        """Do the work of the job once."""
        self.database.write(witnesses.take_in_and_ask, self.ca, now)

    def answer(self, *without: str, **forged: dict[str, str]) -> None:
        """Let the controllers answer, but for some that are off; some say what is ``forged``."""
        with self.database.writes.begin() as connection:
            for row in connection.execute(command.select().where(command.c.state == "open")).all():
                if row.controller not in without:
                    asked = json.loads(row.message)
                    said = self.each[row.controller].sign(asked["month"], asked["code"], asked.get("replaces"))
                    told = {"id": row.id, "cmd": "witness", "result": "done", "time": NOW, **said}
                    outcome = ControllerOutcome.model_validate(told | forged.get(row.controller, {}))
                    values = {"state": "done", "result": outcome.result, "outcome": outcome.pack().decode()}
                    connection.execute(command.update().where(command.c.id == row.id).values(values))
            witnesses.take_in(connection, self.ca.read_bytes())

    def states(self) -> dict[str, str]:
        """Return the states of the answers, by controller."""
        with self.database.reads.begin() as connection:
            return {row.controller: row.state for row in connection.execute(witness.select())}

    def public_list(self, *revoked: str) -> dict[str, Any]:
        """Return the town's public list."""
        found = self.database.read(witnesses.signed_of), self.database.read(witnesses.keys_of)
        return dict(json.loads(json.dumps(public_list(*found, revoked))))


@pytest.fixture(name="streets")
def _streets(database: Database, people: Command, world: World, tmp_path: Path) -> Streets:
    publish(database, tariff())
    names = sorted({meter.microgrid for meter in world.inputs.registry.meters.values()} | {"r901", "r902", "r903"})
    found = Streets(database, names, tmp_path)
    issued(database, people, MONTH)
    return found


def receipt_of(database: Database) -> dict[str, Any]:
    documents = documents_of(database, MONTH)
    return dict(json.loads(json.dumps(documents.receipt(documents.accounts[0]))))


def faults(
    checker: ModuleType, receipt: Mapping[str, Any], streets: Streets, listed: Mapping[str, Any] | None = None
) -> list[str]:
    path = streets.folder / "list.json"
    path.write_text(json.dumps(listed or streets.public_list()))
    checker.FAULTS.clear()
    checker.check_witnesses(receipt, str(path), str(streets.ca))
    return list(checker.FAULTS)


def without_key_of(name: str, listed: Mapping[str, Any]) -> dict[str, Any]:
    return {**listed, "keys": [each for each in listed["keys"] if each["controller"] != name]}


@pytest.mark.parametrize("forged", ["ab" * 96, "01" + "00" * 31 + "01" + "00" * 63], ids=["garbage", "low order"])
def test_what_one_controller_forges_is_refused_and_makes_no_bill_look_wrong(
    streets: Streets, database: Database, checker: ModuleType, forged: str
) -> None:
    """The second is a key of low order, by which one signature fits every text."""
    key = Signer.load(*[streets.certificate("r901").read_bytes()] * 2)
    bound = key.signature(WITNESS_PURPOSE, witness_key_text("r901", forged[:64])).hex()
    streets.ask()
    streets.answer(r901={"signed": forged, "bound": bound, "certificate": pem(key.certificate)})
    assert streets.states()["r901"] == "refused"
    assert "r901" not in {each.controller for each in database.read(witnesses.signed_of)}
    assert faults(checker, receipt_of(database), streets) == []
    assert not checker.is_signed(bytes.fromhex(forged[:64]), bytes.fromhex(forged[64:]), b"any text")


def behind(pair: bytes, key: str) -> dict[str, str]:
    """Return what a certificate with its key says of a witness key of r901."""
    signature = Signer.load(pair, pair).signature(WITNESS_PURPOSE, witness_key_text("r901", key)).hex()
    return {"bound": signature, "certificate": chain_of(pair)}


def issued_by(signer: Signer) -> bytes:
    """Return a certificate for r901, with its key, that a certificate's key signed."""
    key = new_key_pem()
    made = signer.certify(requested(request_of(key).encode())[1], Purpose.DEVICE, "r901", (), NOW, 9**9)
    return (key + pem(made) + pem(signer.certificate)).encode()


def enrolling(streets: Streets, name: str) -> Signer:
    """Return an enrolment certificate of the town for a controller."""
    key = generate_private_key(SECP256R1())
    return Signer(streets.office._signer.delegate(key.public_key(), name, ["10.0.0.1"], NOW, 9**9), key)


def test_a_certificate_of_the_town_for_the_controller_alone_stands_behind_its_key(
    streets: Streets, checker: ModuleType, tmp_path: Path
) -> None:
    own, mate = (streets.certificate(name).read_bytes() for name in ("r901", "r902"))
    strange = certificate(authority(tmp_path / "strange"), Purpose.DEVICE, "r901").read_bytes()
    key = streets.each["r901"].sign(MONTH, "1" * 64, None)["signed"][:64]
    other = {"bound": Signer.load(own, own).signature("other", witness_key_text("r901", key)).hex()}
    found = {
        "its own": behind(own, key),
        "of an enrolment certificate": behind(issued_by(enrolling(streets, "r901")), key),
        "nothing": {"bound": "00" * 8, "certificate": ""},
        "garbage": behind(own, key) | {"certificate": "-----BEGIN"},
        "of another key": behind(own, "ab" * 32),
        "for another purpose": behind(own, key) | other,
        "another controller's": behind(mate, key),
        "another town's": behind(strange, key),
        "issued by a controller": behind(issued_by(Signer.load(mate, mate)), key),
        "issued for others": behind(issued_by(enrolling(streets, "r902")), key),
    }
    ca, each = streets.ca.read_bytes(), {"controller": "r901", "key": key}
    good = [why for why, what in found.items() if BoundKey(**each, **what).is_good(ca)]
    assert good == [why for why, what in found.items() if checker.is_bound(each | what, ca)]
    assert good == ["its own", "of an enrolment certificate"]


def test_a_key_without_the_controllers_certificate_is_refused_and_an_alarm(
    streets: Streets, database: Database
) -> None:
    key = streets.each["r901"].sign("2026-09", "1" * 64, None)["signed"][:64]
    streets.ask()
    streets.answer(r901=behind(streets.certificate("r902").read_bytes(), key))
    assert streets.states()["r901"] == "refused"
    assert not any(each["controller"] == "r901" for each in streets.public_list()["keys"])
    for now, held in ((NOW, (f"r901 ({MONTH})",)), (NOW + ASKED_S, ())):
        assert database.read(counted, now).witnesses == held


def test_a_key_that_the_utility_invents_for_a_street_is_found(
    streets: Streets, database: Database, checker: ModuleType
) -> None:
    receipt, key = receipt_of(database), Ed25519PrivateKey.generate()
    street, code = receipt["leaf"]["meters"][0]["microgrid"], check_code(receipt["head"])
    signature = key.sign(witnessed_text(street, MONTH, code, None)).hex()
    public = key.public_key().public_bytes_raw().hex()
    receipt["witnesses"] = [{"controller": street, "signed": public + signature}]
    entry = {"controller": street, "key": public, "first": MONTH, "last": MONTH, "revoked": False}
    entry |= behind(streets.certificate("r901").read_bytes(), public)
    assert faults(checker, receipt, streets, {"keys": [entry]}) == [
        f"witness {street}: no certificate of this authority signed its key",
        f"witness {street}: your street has not signed; compare the code on its controller's page",
    ]


def test_without_an_authority_to_check_keys_by_nobody_is_asked(streets: Streets, database: Database) -> None:
    database.write(witnesses.take_in_and_ask, None, NOW)
    assert streets.states() == {}


def test_the_public_list_has_what_stands_behind_each_key(streets: Streets) -> None:
    streets.ask()
    streets.answer()
    found = streets.public_list("r901")["keys"]
    assert [each["controller"] for each in found] == sorted(streets.each)
    for each in found:
        assert each["key"] == streets.each[each["controller"]].view()["key"]
        assert details_of(each["certificate"].encode())[0].names == (each["controller"],)
        assert each["revoked"] == (each["controller"] == "r901")


def test_a_receipt_carries_its_streets_signature_and_two_others_that_a_stranger_verifies(
    streets: Streets, database: Database, checker: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "witnesses" not in receipt_of(database)
    streets.ask()
    streets.answer()
    receipt, listed = receipt_of(database), streets.public_list()
    street = receipt["leaf"]["meters"][0]["microgrid"]
    assert receipt["witnesses"][0]["controller"] == street
    assert len(receipt["witnesses"]) == 3
    assert faults(checker, receipt, streets) == []
    said = capsys.readouterr().out
    assert f"{street} signs by the key {streets.each[street].view()['key']}; compare it" in said
    assert f"authority: {digest(streets.ca.read_bytes())}" in said
    assert faults(checker, receipt, streets, streets.public_list(street)) == [
        f"witness {street}: your street has not signed; compare the code on its controller's page"
    ]
    lacking = without_key_of(street, listed)
    assert any("does not have its key" in each for each in faults(checker, receipt, streets, lacking))
    for name, change in (("root", "0" * 64), ("month", "2026-11")):
        changed = receipt | {"head": receipt["head"] | {name: change}}
        assert any("is not under this check code" in each for each in faults(checker, changed, streets))
    replacing = receipt | {"head": receipt["head"] | {"replaces": "1" * 64}}
    faults(checker, replacing, streets)
    assert f"the list replaces another one, {'1' * 64}: compare both" in capsys.readouterr().out


def test_a_head_that_comes_late_is_asked_for_until_it_is_signed(
    streets: Streets, database: Database, checker: ModuleType
) -> None:
    streets.ask()
    late = receipt_of(database)["leaf"]["meters"][0]["microgrid"]
    streets.answer(late)
    assert faults(checker, receipt_of(database), streets) != []
    streets.ask()
    assert late not in streets.states()
    with database.reads.begin() as connection:
        assert len(connection.execute(command.select()).all()) == len(streets.each), "it is asked once while it waits"
    with database.writes.begin() as connection:
        connection.execute(command.update().where(command.c.state == "open").values(state="expired"))
    streets.ask(NOW + ASKED_S)
    streets.answer()
    assert set(streets.states().values()) == {"signed"}
    assert faults(checker, receipt_of(database), streets) == []


def test_codes_of_cancelled_runs_come_in_order_however_late_they_are_asked_for(
    streets: Streets, database: Database, people: Command
) -> None:
    streets.ask()
    streets.answer("r901")
    for number in (1, 2):
        people("do", "entries", "kind=cancel", f"subject={number}", "reason=late meter", "--as", "anna")
        people("do", f"entries/{number}/approve", "--as", "ben")
        issued(database, people, MONTH)
    with database.writes.begin() as connection:
        connection.execute(command.update().where(command.c.state == "open").values(state="expired"))
    for later in range(1, 5):
        streets.ask(NOW + later)
        streets.answer()
    with database.reads.begin() as connection:
        found = Counter((row.run_no, row.state) for row in connection.execute(witness.select()))
    assert found == {(number, "signed"): len(streets.each) for number in (1, 2, 3)}
    assert not any(each.view()["others"] for each in streets.each.values())


def test_a_controller_that_could_not_sign_is_asked_again_a_day_later(streets: Streets, database: Database) -> None:
    streets.ask()
    with database.writes.begin() as connection:
        connection.execute(command.update().values(state="done", result="unsupported", outcome="{}"))
    for later, count in ((300, 1), (AGAIN_S, 2), (AGAIN_S + 300, 2)):
        streets.ask(NOW + later)
        with database.reads.begin() as connection:
            assert len(connection.execute(command.select()).all()) == count * len(streets.each)
    streets.answer()
    assert set(streets.states().values()) == {"signed"}


def test_a_utility_with_two_lists_is_caught_by_the_first_street(streets: Streets, database: Database) -> None:
    (first, *_) = streets.each
    other = "f" * 64
    assert "signed" in streets.each[first].sign(MONTH, other, None), "the list that this street was shown before"
    streets.ask()
    streets.answer()
    assert streets.states()[first] == "refused"
    assert streets.each[first].view()["others"][MONTH][0] == other
    code = check_code(documents_of(database, MONTH).tree.head)
    assert first not in {each["controller"] for each in chosen(database.read(witnesses.signed_of), code, {first})}


def test_a_controller_that_was_replaced_has_both_keys_in_the_list(
    streets: Streets, database: Database, people: Command, tmp_path: Path
) -> None:
    streets.ask()
    streets.answer()
    (name, *_) = streets.each
    old = streets.each[name].view()["key"]
    (tmp_path / "new").mkdir()
    streets.each[name] = Witness(tmp_path / "new", name, streets.certificate(name))
    issued(database, people, "2026-11")
    streets.ask(NOW + 1)
    streets.answer()
    listed = [each for each in streets.public_list()["keys"] if each["controller"] == name]
    assert {(each["key"], each["first"], each["last"]) for each in listed} == {
        (old, MONTH, MONTH),
        (streets.each[name].view()["key"], "2026-11", "2026-11"),
    }


def test_forged_signatures_of_every_kind_are_found(checker: ModuleType) -> None:
    for seed in range(8):
        key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        public, text = key.public_key().public_bytes_raw(), b"text %d" % seed
        good = key.sign(text)
        assert checker.is_signed(public, good, text)
        assert not checker.is_signed(public, good, text + b".")
        for at in (0, 31, 32, 63):
            assert not checker.is_signed(public, good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :], text)
        assert not checker.is_signed(bytes(32), good, text)
        assert not checker.is_signed(public, good[:32] + b"\xff" * 32, text)
