"""An issued run stands in the ledger, each bill by its lines, with its due day; a command exports the month."""

import csv
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commonwatt.config.office import LedgerCodes
from harness.billing.found import found_in_store, published
from harness.billing.two_months import world_of
from harness.billing.worlds import tariff
from harness.commands import token_for
from harness.ledger.checker import main
from tests.unit.utility.conftest import NOW
from tests.unit.utility.tariffs.test_corrected_prices import correcting
from utility.access.actor import Actor, Via
from utility.access.decisions import Second
from utility.access.roles import Role
from utility.billing import decisions as runs
from utility.billing.bill import Bill, LineKind
from utility.billing.entries import EntryKind
from utility.billing.run import bills_of
from utility.billing.store.billing import bills_of_run
from utility.database.database import Database
from utility.exports.cli import app
from utility.ledger.store.entries import balances, exported


def someone(name: str) -> Actor:
    return Actor(name=name, roles=frozenset({Role.CLERK, Role.APPROVER}), account=None, via=Via.SESSION, address="")


publish = partial(published, now=NOW)


def issue(database: Database, number: int, month: str) -> None:
    runs.draft(database, month, "town", someone("anna"), NOW)
    runs.check(database, number, someone("anna"), NOW)
    runs.issue(database, number, Second(actor=someone("ben"), now=NOW, wait_days=0), 14)


def test_issued_run_is_posted_and_the_export_balances_with_its_bills(
    database: Database, monkeypatch: pytest.MonkeyPatch, config: Path, tmp_path: Path
) -> None:
    found_in_store(monkeypatch, world_of())
    for name in ("anna", "ben"):
        token_for(database, name, NOW)
    publish(database, tariff())
    issue(database, 1, "2026-10")
    with database.reads.begin() as connection:
        bills, owed = bills_of_run(connection, 1), balances(connection)
    assert owed == {each.account: int(each.total * 100) for each in bills if each.total}
    (tmp_path / "payments.csv").write_text("cents,account\n")
    rows = [f"1,{each.account},{int(each.total * 100)},0" for each in bills]
    (tmp_path / "bills.csv").write_text("run,account,cents,taxes,state\n" + "".join(f"{row},issued\n" for row in rows))
    out = tmp_path / "ledger-2027-01.csv"
    words = ["ledger", "--month", "2027-01", "--out", str(out), "--config", str(config)]
    assert CliRunner().invoke(app, words).exit_code == 0
    lines = list(csv.DictReader(out.read_text().splitlines()))
    assert {line["due"] for line in lines} == {"2027-01-29"}
    assert main(tmp_path) == 0
    no = runs.enter(database, EntryKind.CANCEL, 1, Decimal(0), "a wrong price", someone("anna"), NOW)
    runs.approve_entry(database, no, Second(actor=someone("ben"), now=NOW, wait_days=0))
    with database.reads.begin() as connection:
        assert balances(connection) == {}, "the run is cancelled"
    assert CliRunner().invoke(app, words).exit_code == 0
    assert main(tmp_path) == 1, "the bills are still said to be issued"
    (tmp_path / "bills.csv").write_text(
        "run,account,cents,taxes,state\n" + "".join(f"{row},cancelled\n" for row in rows)
    )
    assert main(tmp_path) == 0


def taxes_of(bill: Bill) -> int:
    return int(sum(line.amount for line in bill.lines if line.kind is LineKind.TAX) * 100)


def test_a_corrected_price_corrects_its_taxes_in_the_ledger(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world, tax = found_in_store(monkeypatch, world_of()), {"name": "VAT", "percent": "20"}
    for name in ("anna", "ben"):
        token_for(database, name, NOW)
    old, new = tariff(tax=[tax]), correcting(tax=[tax | {"percent": "7"}])
    publish(database, old)
    issue(database, 1, "2026-10")
    publish(database, new)
    issue(database, 2, "2026-11")
    both = [
        bill_of.bill
        for month in ("2026-10", "2026-11")
        for bill_of in bills_of(replace(world.inputs, month=month, tariffs=(old, new)), world.load).billed.values()
    ]
    rows = [f"1,{each.account},{int(each.total * 100)},{taxes_of(each)},issued" for each in both]
    (tmp_path / "bills.csv").write_text("\n".join(["run,account,cents,taxes,state", *rows]))
    (tmp_path / "payments.csv").write_text("cents,account\n")
    with database.reads.begin() as connection:
        (tmp_path / "ledger-2027-01.csv").write_bytes(exported(connection, "2027-01", LedgerCodes()))
    assert main(tmp_path) == 0, "what is owed, and taxes, are those of the corrected price"
