"""An issued run stands in the ledger, each bill by its lines, with its due day; a command exports the month."""

import csv
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.billing.found import found_in_store
from harness.billing.two_months import world_of
from harness.billing.worlds import tariff
from harness.commands import token_for
from harness.ledger.checker import main
from tests.unit.utility.conftest import NOW
from utility.access.actor import Actor, Via
from utility.access.decisions import Second
from utility.access.roles import Role
from utility.billing import decisions as runs
from utility.billing.entries import EntryKind
from utility.billing.store.billing import bills_of_run
from utility.database.database import Database
from utility.exports.cli import app
from utility.ledger.store.entries import balances
from utility.tariffs.store import tariffs


def someone(name: str) -> Actor:
    return Actor(name=name, roles=frozenset({Role.CLERK, Role.APPROVER}), account=None, via=Via.SESSION, address="")


def test_issued_run_is_posted_and_the_export_balances_with_its_bills(
    database: Database, monkeypatch: pytest.MonkeyPatch, config: Path, tmp_path: Path
) -> None:
    found_in_store(monkeypatch, world_of())
    for name in ("anna", "ben"):
        token_for(database, name, NOW)
    with database.writes.begin() as connection:
        stored = tariffs.propose(connection, tariff(), "", "anna", NOW)
        tariffs.publish(connection, stored.name, stored.version, "ben", NOW)
    runs.draft(database, "2026-10", "town", someone("anna"), NOW)
    runs.check(database, 1, someone("anna"), NOW)
    runs.issue(database, 1, Second(actor=someone("ben"), now=NOW, wait_days=0), 14)
    with database.reads.begin() as connection:
        bills, owed = bills_of_run(connection, 1), balances(connection)
    assert owed == {each.account: int(each.total * 100) for each in bills if each.total}
    (tmp_path / "payments.csv").write_text("cents,account\n")
    rows = [f"1,{each.account},{int(each.total * 100)}" for each in bills]
    (tmp_path / "bills.csv").write_text("run,account,cents,state\n" + "".join(f"{row},issued\n" for row in rows))
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
    (tmp_path / "bills.csv").write_text("run,account,cents,state\n" + "".join(f"{row},cancelled\n" for row in rows))
    assert main(tmp_path) == 0
