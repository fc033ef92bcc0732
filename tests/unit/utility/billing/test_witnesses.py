"""Controllers witness the bills: a utility with two lists is caught by the first street that was told both (U2)."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import select

from commonwatt.protocol.controller_commands import ControllerOutcome
from gateway.witness.witness import Witness
from harness.billing.worlds import World, tariff
from tests.unit.utility.billing.test_billing import NOW, Command, _people, _world, issued, publish
from tests.unit.utility.billing.test_check_bill import _checker
from utility.billing.proof.head import check_code
from utility.billing.proof.witnesses import Signed, chosen, public_list
from utility.billing.store import witnesses
from utility.billing.store.bill_documents import documents_of
from utility.billing.store.witnesses import AGAIN_S, ASKED_S
from utility.billing.tables import witness
from utility.database.database import Database
from utility.outbox.tables import command
from utility.registry.tables import controller

people, world, checker = _people, _world, _checker
kind = pytest.fixture(lambda: "sqlite")

MONTH = "2026-10"


class Streets:
    """The controllers of a town, which answer what they are asked."""

    def __init__(self, database: Database, names: list[str], folder: Path) -> None:
        self.database = database
        self.each = {name: Witness(folder, name) for name in names}
        with database.writes.begin() as connection:
            known = set(connection.execute(select(controller.c.id)).scalars())
            self.each |= {name: Witness(folder, name) for name in known}
            new = enumerate((name for name in names if name not in known), 101)
            rows = [{"id": name, "number": n, "kind": "residential", "address": "10.0.0.1"} for n, name in new]
            connection.execute(controller.insert(), rows)

    def ask(self, now: int = NOW) -> None:
        """Do the work of the job once."""
        self.database.write(witnesses.take_in_and_ask, now)

    def answer(self, *without: str) -> None:
        """Let the controllers answer, but for some that are off."""
        with self.database.writes.begin() as connection:
            for row in connection.execute(command.select().where(command.c.state == "open")).all():
                if row.controller not in without:
                    asked = json.loads(row.message)
                    said = self.each[row.controller].sign(asked["month"], asked["code"], asked.get("replaces"))
                    told = {"id": row.id, "cmd": "witness", "result": "done", "time": NOW, **said}
                    outcome = ControllerOutcome.model_validate(told)
                    values = {"state": "done", "result": outcome.result, "outcome": outcome.pack().decode()}
                    connection.execute(command.update().where(command.c.id == row.id).values(values))
            witnesses.take_in(connection)

    def states(self) -> dict[str, str]:
        """Return the states of the answers, by controller."""
        with self.database.reads.begin() as connection:
            return {row.controller: row.state for row in connection.execute(witness.select())}


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
    checker: ModuleType, receipt: Mapping[str, Any], found: list[Signed], path: Path, *revoked: str
) -> list[str]:
    path.write_text(json.dumps(public_list(found, revoked)))
    checker.FAULTS.clear()
    checker.check_witnesses(receipt, str(path))
    return list(checker.FAULTS)


def test_a_receipt_carries_its_streets_signature_and_two_others_that_a_stranger_verifies(
    streets: Streets, database: Database, checker: ModuleType, tmp_path: Path
) -> None:
    assert "witnesses" not in receipt_of(database)
    streets.ask()
    streets.answer()
    receipt, found = receipt_of(database), database.read(witnesses.signed_of)
    street = receipt["leaf"]["meters"][0]["microgrid"]
    assert receipt["witnesses"][0]["controller"] == street
    assert len(receipt["witnesses"]) == 3
    path = tmp_path / "list.json"
    assert faults(checker, receipt, found, path) == []
    assert faults(checker, receipt, found, path, street) == [
        f"witness {street}: your street has not signed; compare the code on its controller's page"
    ]
    others = [each for each in found if each.controller != street]
    assert any("does not have its key" in each for each in faults(checker, receipt, others, path))
    for name, change in (("root", "0" * 64), ("month", "2026-11")):
        changed = receipt | {"head": receipt["head"] | {name: change}}
        assert any("is not under this check code" in each for each in faults(checker, changed, found, path))


def test_a_head_that_comes_late_is_asked_for_until_it_is_signed(
    streets: Streets, database: Database, checker: ModuleType, tmp_path: Path
) -> None:
    streets.ask()
    late = receipt_of(database)["leaf"]["meters"][0]["microgrid"]
    streets.answer(late)
    found = database.read(witnesses.signed_of)
    assert faults(checker, receipt_of(database), found, tmp_path / "list.json") != []
    streets.ask()
    assert streets.states()[late] == "asked", "it is asked once while the command waits"
    with database.writes.begin() as connection:
        connection.execute(command.update().where(command.c.state == "open").values(state="expired"))
    streets.ask(NOW + ASKED_S)
    streets.answer()
    assert set(streets.states().values()) == {"signed"}
    assert faults(checker, receipt_of(database), database.read(witnesses.signed_of), tmp_path / "list.json") == []


def test_codes_of_cancelled_runs_come_in_order_however_late_they_are_asked_for(
    streets: Streets, database: Database, people: Command
) -> None:
    streets.ask()
    streets.answer("r901")
    for number in (1, 2):
        people("bills", "enter", "cancel", str(number), "--why", "late meter", "--as", "anna")
        people("bills", "approve", str(number), "--as", "ben")
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


def test_a_controller_that_was_replaced_has_both_keys_in_the_list(streets: Streets, database: Database) -> None:
    streets.ask()
    streets.answer()
    (name, *_) = streets.each
    old, new = database.read(witnesses.signed_of)[0], "a" * 192
    again = Signed(controller=name, month="2026-11", signed=new)
    listed = [each for each in public_list([old, again], ())["keys"] if each["controller"] == name]
    assert {(each["key"], each["first"], each["last"]) for each in listed} == {
        (old.signed[:64], MONTH, MONTH),
        (new[:64], "2026-11", "2026-11"),
    }


def test_forged_signatures_of_every_kind_are_found(checker: ModuleType) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

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
