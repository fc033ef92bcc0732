"""An issued bill that was changed in the database is named at every door, and shown, printed and exported at none."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.units import AccountNumber
from harness.billing.worlds import World, tariff
from harness.surroundings.databases import begun_with
from tests.unit.utility.billing.test_billing import NOW, Command, _people, _world, issued, publish
from utility.billing.bill import LineKind
from utility.billing.decisions import previewed
from utility.billing.proof import AlteredBillError
from utility.billing.store import billing_sources
from utility.billing.store import documents as bill_documents
from utility.billing.store.documents import (
    RunDocuments,
    bill_in,
    documents_of,
    issued_bills,
    issued_documents,
    refuse_altered,
)
from utility.billing.store.run_bills import prepared
from utility.billing.store.runs import bills_of_run, run_of, runs
from utility.billing.tables import bill, bill_run
from utility.database.database import Database
from utility.exports.selection import ExportSelection
from utility.exports.store.exports import AskedExport, bills_export

people, world = _people, _world
kind = pytest.fixture(lambda: "sqlite")

MONTH = "2026-10"


@pytest.fixture
def run(people: Command, database: Database, world: World, tmp_path: Path) -> int:
    """Return the issued run of a month."""
    assert world.settled.meters.size

    def make() -> int:
        publish(database, tariff())
        return issued(database, people, MONTH)

    return begun_with("an issued month", tmp_path / "utility.db", make)


def rewritten(database: Database, account: AccountNumber, change: Callable[[dict[str, object]], object]) -> None:
    """Change the content of an account's bill in the database."""
    ours = (bill.c.run_no == 1) & (bill.c.account == account)
    with database.writes.begin() as connection:
        content = json.loads(connection.execute(bill.select().where(ours)).one().content)
        change(content)
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        connection.execute(bill.update().where(ours).values(content=text))


def _cents(database: Database, account: AccountNumber) -> None:
    with database.writes.begin() as connection:
        connection.execute(bill.update().where(bill.c.account == account).values(cents=bill.c.cents + 1000))


def _base(database: Database, account: AccountNumber) -> None:
    with database.writes.begin() as connection:
        connection.execute(bill.update().where(bill.c.account == account).values(base="1.00"))


def _line(database: Database, account: AccountNumber) -> None:
    def change(content: dict[str, object]) -> None:
        lines = content["lines"]
        assert isinstance(lines, list)
        lines[0]["text"] = "Base, as agreed"

    rewritten(database, account, change)


def _total(database: Database, account: AccountNumber) -> None:
    rewritten(database, account, lambda content: content.update(total="0.01"))
    with database.writes.begin() as connection:
        connection.execute(bill.update().where(bill.c.account == account).values(cents=1))


def _deleted(database: Database, account: AccountNumber) -> None:
    with database.writes.begin() as connection:
        connection.execute(bill.delete().where((bill.c.run_no == 1) & (bill.c.account == account)))


EDITS = {"cents": _cents, "base": _base, "line": _line, "total": _total, "deleted": _deleted}


def exported(database: Database, *accounts: AccountNumber) -> object:
    asked = AskedExport(
        start=1_789_999_200,
        end=1_799_999_100,
        selection=ExportSelection(accounts=accounts),
        names=("start", "end", "", "", "account"),
    )
    export = bills_export(database, asked)
    return [list(rows) for rows in (export.rows(piece) for piece in export.pieces())]


@pytest.mark.parametrize("edit", EDITS)
def test_row_32_an_issued_bill_changed_in_the_database_is_named_at_every_door_and_printed_at_none(
    people: Command, database: Database, tmp_path: Path, edit: str, run: int
) -> None:
    with database.reads.begin() as connection:
        accounts = [each.account for each in bills_of_run(connection, 1)]
    account, other = accounts[0], accounts[1]
    was = bill_in(database, 1, account)
    exported(database)
    EDITS[edit](database, account)
    names = f"issued run 1 of {MONTH}, account {account}: "

    for words in (
        ("explain", str(account), MONTH),
        ("print", MONTH, "--account", str(account), "--out", str(tmp_path / "one")),
        ("receipt", str(account), MONTH),
        ("leaves", MONTH, "--out", str(tmp_path / "leaves")),
        ("do", "runs/1/check", "--as", "anna"),
    ):
        said = people(words[0] if words[0] == "do" else "bills", *words[words[0] == "do" :], code=1)
        assert names.split(", account")[0] in said.replace("\n", " "), words
        assert str(was.total) not in said, words
    assert not list(tmp_path.glob("one/*"))
    assert not (tmp_path / "leaves").exists()
    doors: list[Callable[[], object]] = [
        lambda: bill_in(database, 1, account),  # the API
        lambda: issued_documents(database, (MONTH, 0), account),  # the household's pages
        lambda: list(documents_of(database, MONTH).statements([account])),
        lambda: documents_of(database, MONTH).refuse_altered(),
        lambda: exported(database, account),
    ]
    (listed,) = issued_bills(database, account, 9)  # the household's list, the console's
    assert (listed.month, listed.total) == (MONTH, None)
    (listed,) = issued_bills(database, other, 9)
    assert listed.total is not None
    if edit != "base":  # lists and exports have no base
        doors += [lambda: exported(database), lambda: refuse_altered(database, 1)]
    for door in doors:
        with pytest.raises(AlteredBillError, match=names) as raised:
            door()
        assert (raised.value.run, raised.value.account) == (1, account)
    assert bill_in(database, 1, other).account == other, "the others are as they were"


def test_the_next_run_starts_from_what_was_issued_not_from_a_changed_row(database: Database, run: int) -> None:
    before = prepared(database, "2026-11", "town", NOW)
    with database.reads.begin() as connection:
        account = next(each.account for each in bills_of_run(connection, 1) if each.total > 0)

    def change(content: dict[str, object]) -> None:
        lines = content["lines"]
        assert isinstance(lines, list)
        line = next(each for each in lines if each["kind"] == LineKind.IMPORT)
        line["amount"] = str(Decimal(line["amount"]) + 100)

    rewritten(database, account, change)
    _base(database, account)
    after = prepared(database, "2026-11", "town", NOW)
    assert after.earlier == before.earlier, "no correction of a difference that nobody billed"
    assert after.bases == before.bases


@pytest.mark.parametrize(
    "junk", [{"start": 1.5}, {"policy": "mine"}, {"total": "NaN"}, {"lines": None}, {"account": 99}, {"tariff": ["x"]}]
)
def test_a_bill_that_no_run_makes_is_named(database: Database, junk: dict[str, object], run: int) -> None:
    with database.reads.begin() as connection:
        account = bills_of_run(connection, 1)[0].account
    rewritten(database, account, lambda content: content.update(junk))
    with pytest.raises(AlteredBillError, match=f"account {account}: its"):
        bill_in(database, 1, account)
    assert [one.total for one in issued_bills(database, account, 9)] == [None]


def test_a_bill_is_proved_by_the_registry_of_now_without_the_runs_inputs(
    database: Database, world: World, monkeypatch: pytest.MonkeyPatch, run: int
) -> None:
    registry = world.inputs.registry
    monkeypatch.setattr(billing_sources, "load_registry_around", lambda *_: registry)
    monkeypatch.setattr(bill_documents, "stored_run", None)
    with database.reads.begin() as connection:
        bills = bills_of_run(connection, 1)
    assert [bill_in(database, 1, each.account) for each in bills] == bills
    with pytest.raises(ConfigError, match="has no bill of account 9999"):
        bill_in(database, 1, 9999)


def test_a_tree_that_is_not_that_of_the_printed_code_is_named(database: Database, run: int) -> None:
    documents = documents_of(database, MONTH)
    documents.tree.head["root"] = "00" * 32
    with pytest.raises(StoreError, match="the run's tree is not the one of its check code"):
        documents.bill(min(documents.bills))


def test_an_edited_root_beside_the_tree_is_shown_by_no_door(database: Database, run: int) -> None:
    root = documents_of(database, MONTH).tree.head["root"]
    with database.writes.begin() as connection:
        connection.execute(bill_run.update().values(root="00" * 32))
    with database.reads.begin() as connection:
        assert [run["root"] for run in runs(connection, 9)] == [root]
        assert run_of(connection, 1)["root"] == root


def test_a_deleted_bill_of_an_account_that_had_no_meter_in_the_month_is_named(
    database: Database, monkeypatch: pytest.MonkeyPatch, run: int
) -> None:
    """A bill of corrections alone."""
    account = min(documents_of(database, MONTH).bills)
    monkeypatch.setattr(RunDocuments, "_holders", frozenset())
    _deleted(database, account)
    for door in (lambda: bill_in(database, 1, account), lambda: issued_documents(database, (MONTH, 0), account)):
        with pytest.raises(AlteredBillError, match="a bill is missing, perhaps its own"):
            door()
    with pytest.raises(ConfigError, match="no bill of account 9999"):
        issued_documents(database, (MONTH, 0), 9999)


def test_the_preview_of_a_tariff_starts_from_what_was_issued(people: Command, database: Database, world: World) -> None:
    with_bases = tariff(policy={"name": "aces", "off_peak": "off-peak"})
    publish(database, with_bases)
    issued(database, people, MONTH)
    before = previewed(database, with_bases, "2026-11", "town")
    for each in documents_of(database, MONTH).bills:
        _base(database, each)
    assert previewed(database, with_bases, "2026-11", "town") == before
