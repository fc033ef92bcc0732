"""Goodwill, fees, credit notes and cancelled runs: by two people, at every door; and final bills (U2, C3)."""

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import spaced
from harness.billing.worlds import World, random_world, tariff, world_of
from harness.console import Browser, text_of
from harness.surroundings import databases
from tests.unit.utility.billing.test_billing import Command, _people, _world, issued, number_of, publish
from tests.unit.utility.billing.test_bills import issued as month_of
from tests.unit.utility.billing.test_bills import stored
from tests.unit.utility.billing.test_check_bill import SECRET, _checker, faults, receipt, run_of
from utility.access.people import Actor, Role, Via
from utility.access.store import audit_log
from utility.billing.audit import audit, leaves_file
from utility.billing.bill import LINE_ROWS, Bill, BillEntry, EntryKind, LineKind, cents_of
from utility.billing.decisions import withdraw_entry
from utility.billing.documents.statement import texts
from utility.billing.proof import AlteredBillError, Leaf, check_code, salts
from utility.billing.store import entries as table
from utility.billing.store.documents import (
    KeptDocuments,
    documents_of_run,
    issued_bills,
    issued_documents,
    leaves_of,
    refuse_altered,
)
from utility.billing.store.runs import bills_of_run
from utility.billing.store.runs import run_of as run_row
from utility.billing.stored_run import computed, unpack_run
from utility.billing.tables import bill, bill_entry
from utility.database.database import Database
from utility.overview.store import town
from utility.registry.tables import holding
from utility.settings import LedgerCodes

people, world, checker = _people, _world, _checker
kind = pytest.fixture(lambda: "sqlite")
Browsers = Callable[..., Browser]
CLERK = Actor(name="anna", roles=frozenset({Role.CLERK}), account=None, via=Via.SESSION, address="")
OCTOBER, NOVEMBER = "2026-10", "2026-11"


@pytest.fixture(name="account")
def _account(database: Database, people: Command, world: World) -> int:
    """Return an account with a meter, in a town with a tariff."""
    publish(database, tariff())
    account = min(h.account for m in world.inputs.registry.meters.values() for h in m.holdings)
    with database.writes.begin() as connection:
        connection.execute(holding.insert().values(meter=1, since=0, account=account, crc=0))
    return account


def test_each_kind_of_line_has_a_row_and_is_booked_to_an_account_of_the_ledger() -> None:
    assert set(LINE_ROWS) == set(LineKind)
    assert {code for row in LINE_ROWS.values() for code in row.ledger} <= set(LedgerCodes.model_fields)


def bill_of(database: Database, run: int, account: int) -> Bill:
    with database.reads.begin() as connection:
        return next(each for each in bills_of_run(connection, run) if each.account == account)


def entry_lines(found: Bill) -> list[tuple[str, Decimal, str, int]]:
    return [(x.text, x.amount, x.reason, x.entry) for x in found.lines if x.kind is LineKind.ENTRY]


def state(database: Database, entry: int) -> tuple[str, int]:
    row = database.read(table.entry_of, entry)
    return row["state"], row["left_cents"]


def entered(people: Command, kind: str, subject: int, amount: str = "0") -> str:
    """Have anna enter something and ben approve it; return its number."""
    words = (f"kind={kind}", f"subject={subject}", f"amount={amount}", "reason=late meter", "--as", "anna")
    number = str(number_of(people("do", "entries", *words)))
    people("do", f"entries/{number}/approve", "--as", "ben")
    return number


def test_an_entry_of_two_people_is_on_the_next_bill_once(people: Command, database: Database, account: int) -> None:
    words = ("kind=goodwill", f"subject={account}", "amount=4.50", "reason=late meter", "--as", "anna")
    assert number_of(people("do", "entries", *words)) == 1
    assert not entry_lines(bill_of(database, made(people, OCTOBER), account)), "no second person approved it"
    assert "anna entered it; a second person" in people("do", "entries/1/approve", "--as", "anna", code=2)
    assert "decided by ben" in people("do", "entries/1/approve", "--as", "ben")
    assert "entry 1 is approved" in people("do", "entries/1/approve", "--as", "ben", code=2)
    run = issued(database, people, OCTOBER)
    found = bill_of(database, run, account)
    assert entry_lines(found) == [("Goodwill", Decimal("-4.50"), "late meter", 1)]
    assert found.total == sum(line.amount for line in found.lines)
    assert state(database, 1) == ("approved", 0)
    row = database.read(run_row, run)
    assert (row["figures"]["entry"], documents_of_run(database, run, None).run.rules) == ("-4.50", 3)
    assert not entry_lines(bill_of(database, issued(database, people, NOVEMBER), account))
    actions = [row["action"] for row in database.read(audit_log.entries, audit_log.AuditFilter(), 99)]
    assert {"entry.enter", "entry.approve"} <= set(actions)
    log = json.dumps([dict(row) for row in database.read(audit_log.entries, audit_log.AuditFilter(), 99)], default=str)
    assert "late meter" not in log, "what a clerk writes of a person stays out of the log"


def made(people: Command, month: str) -> int:
    number = number_of(people("do", "runs", f"month={month}", "--as", "anna"))
    people("do", f"runs/{number}/check", "--as", "anna")
    return number


@databases.on_both_kinds
def test_goodwill_beyond_a_bill_goes_on_with_the_next_and_a_fee_is_billed_whole(
    people: Command, database: Database, account: int
) -> None:
    entered(people, "credit_note", account, "50")
    entered(people, "fee", account, "3.10")
    first = bill_of(database, issued(database, people, OCTOBER), account)
    own = sum(line.amount for line in first.lines if line.kind is not LineKind.ENTRY)
    fee = Decimal("3.10")
    assert [amount for _, amount, _, _ in entry_lines(first)] == [fee, -own - fee], "fees first"
    assert int(first.total) == 0
    assert own < 40
    second = bill_of(database, issued(database, people, NOVEMBER), account)
    assert [amount for _, amount, _, _ in entry_lines(second)] == [own + fee - 50]
    assert state(database, 1) == ("approved", 0)


def test_an_approved_entry_is_undone_by_its_opposite_alone(people: Command, database: Database, account: int) -> None:
    entered(people, "fee", account, "1")
    with pytest.raises(ConfigError, match="is approved and can't be withdrawn; two people undo an approved one"):
        withdraw_entry(database, 1, CLERK, 1)
    entered(people, "goodwill", account, "1")
    found = bill_of(database, issued(database, people, OCTOBER), account)
    assert sum(amount for _, amount, _, _ in entry_lines(found)) == 0


def test_an_entry_that_another_bill_has_holds_the_issue_up(people: Command, database: Database, account: int) -> None:
    entered(people, "goodwill", account, "1")
    run = made(people, OCTOBER)
    with database.writes.begin() as connection:
        connection.execute(bill_entry.update().values(left_cents=0))
    assert "another bill has entry 1 of run 1" in people("do", f"runs/{run}/issue", "--as", "ben", code=2)
    assert database.read(run_row, run)["state"] == "checked", "nothing was changed"


@pytest.mark.parametrize("amount", ["0", "-1", "0.005", "10000.01", "1e9"])
def test_an_amount_that_is_no_entry_is_refused(amount: str) -> None:
    with pytest.raises(ConfigError, match=r"amount must be from 0\.01 to 10,000\.00"):
        cents_of(EntryKind.FEE, Decimal(amount))


def test_an_entry_for_an_account_that_never_had_a_meter_is_refused(people: Command, account: int) -> None:
    words = ("do", "entries", "kind=fee", "amount=1", "--as", "anna")
    assert "account 9999 never had a meter" in people(*words, "subject=9999", "reason=x", code=2)
    assert "reason needs 1 to 200" in people(*words, f"subject={account}", "reason= ", code=2)


@databases.on_both_kinds
def test_a_cancelled_month_is_issued_again_and_both_codes_stay(
    people: Command, database: Database, account: int, checker: ModuleType, tmp_path: Path
) -> None:
    entered(people, "goodwill", account, "4.50")
    stale = made(people, OCTOBER)
    entered(people, "goodwill", account, "1")
    first = issued(database, people, OCTOBER)
    assert "only an issued run is cancelled" in people(
        "do", "entries", "kind=cancel", f"subject={stale}", "reason=x", "--as", "anna", code=2
    )
    before = bill_of(database, first, account)
    people("do", "entries", "kind=cancel", f"subject={first}", "reason=wrong price", "--as", "anna")
    assert "anna entered it" in people("do", "entries/3/approve", "--as", "anna", code=2)
    assert database.read(run_row, first)["state"] == "issued"
    people("do", "entries/3/approve", "--as", "ben")
    assert database.read(run_row, first)["state"] == "cancelled"
    assert state(database, 1) == ("approved", -450), "the next run has it again"
    assert "entry 3 is approved" in people("do", "entries/3/approve", "--as", "ben", code=2)
    assert "made before another run was issued or cancelled" in people(
        "do", f"runs/{stale}/issue", "--as", "ben", code=2
    )
    again = issued(database, people, OCTOBER)
    codes = []
    for run, shown in ((first, "Cancelled bill, October 2026"), (again, "Bill, October 2026")):
        documents = documents_of_run(database, run, None)
        (statement,) = documents.statements([account])
        assert texts(statement).title == shown
        codes.append(check_code(documents.tree.head))
        assert faults(checker, json.loads(json.dumps(documents.receipt(account)))) == []
        assert not audit(leaves_file(documents.tree.head, leaves_of(documents))).faults
    assert documents.tree.head["replaces"] == codes[0]
    assert ("", spaced(codes[0])) in texts(statement).facts
    assert [x.amount for x in bill_of(database, again, account).lines] == [x.amount for x in before.lines]
    leaves = tmp_path / "leaves.jsonl"
    people("bills", "leaves", OCTOBER, "--run", str(first), "--out", str(leaves))
    assert f"check code of the month: {codes[0]}" in people("bills", "audit", str(leaves), offline=True)
    issued(database, people, NOVEMBER)
    words = people("do", "entries", "kind=cancel", f"subject={again}", "reason=x", "--as", "anna", code=2)
    assert "bills of 2026-11 are issued after it" in words
    assert issued_documents(database, (OCTOBER, first), account).state == "cancelled"
    assert issued_documents(database, (OCTOBER, 0), account).number == again
    listed = issued_bills(database, account, 9, ("issued", "cancelled"))
    assert [(one.no, one.state) for one in listed][1:] == [(again, "issued"), (first, "cancelled")]


def test_a_cancelled_bill_that_was_changed_in_the_database_is_named(
    people: Command, database: Database, account: int
) -> None:
    run = issued(database, people, OCTOBER)
    entered(people, "cancel", run)
    kept = KeptDocuments[int](lambda key, number: documents_of_run(database, key, number), database)
    assert kept.of(account, run).state == "cancelled"
    with database.writes.begin() as connection:
        connection.execute(bill.update().where(bill.c.account == account).values(cents=bill.c.cents + 100))
    for door in (
        lambda: refuse_altered(database, run),
        lambda: documents_of_run(database, run, account),
        lambda: issued_documents(database, (OCTOBER, run), account),
    ):
        with pytest.raises(AlteredBillError):
            door()


def test_a_kept_bill_is_marked_once_its_run_is_cancelled(people: Command, database: Database, account: int) -> None:
    run = issued(database, people, OCTOBER)
    kept = KeptDocuments[int](lambda key, number: documents_of_run(database, key, number), database)
    assert kept.of(account, run).state == "issued"
    entered(people, "cancel", run)
    assert kept.of(account, run).state == "cancelled"


def test_entries_in_the_console_need_two_people(browser: Browsers, database: Database, account: int) -> None:
    anna, ben = browser(Role.CLERK, Role.APPROVER, name="anna"), browser(Role.APPROVER, name="ben")
    form = {"kind": "fee", "subject": str(account), "amount": "2.00", "reason": "a visit"}
    assert ben.post("/console/entries", form).status_code == 403
    assert anna.post("/console/entries", form).status_code == 303
    assert anna.post("/console/entries", form).status_code == 303
    assert town.counts(database)["entries"] == 2
    own = anna.post("/console/entries/1/approve")
    assert (own.status_code, "anna entered it; a second person" in text_of(own)) == (409, True)
    assert ben.post("/console/entries/1/approve").status_code == 303
    assert ben.post("/console/entries/2/withdraw").status_code == 303
    page = text_of(anna.get("/console/entries"))
    assert "a visit" in page
    assert (state(database, 1), state(database, 2)) == (("approved", 200), ("withdrawn", 200))
    assert anna.post("/console/entries", form | {"amount": "20000"}).status_code == 422
    assert browser(Role.VIEWER, name="vera").get("/console/entries").status_code == 403


_ENTRIES = st.lists(
    st.tuples(st.sampled_from([k for k in EntryKind if k is not EntryKind.CANCEL]), st.integers(1, 10**6)), max_size=6
)


@settings(max_examples=15, deadline=None, phases=[Phase.generate])
@given(seed=st.integers(0, 20), some=_ENTRIES, data=st.data())
def test_a_bill_is_the_sum_of_its_lines_and_negative_only_if_it_is_final(
    checker: ModuleType, seed: int, some: list[tuple[EntryKind, int]], data: st.DataObject
) -> None:
    world = random_world(seed)
    plain = run_of(world)
    accounts = sorted(computed(plain, world.load).billed)
    entries = tuple(
        BillEntry(no=n, account=data.draw(st.sampled_from(accounts)), kind=kind, reason="why",
              cents=cents_of(kind, Decimal(cents).scaleb(-2)))
        for n, (kind, cents) in enumerate(some, 1)
    )  # fmt: skip
    finals = tuple(sorted(data.draw(st.sets(st.sampled_from(accounts), max_size=3))))
    run = unpack_run(replace(plain, entries=entries, finals=finals, rules=3).pack())
    made = computed(run, world.load)
    tree = made.tree(SECRET)
    for number, each in made.billed.items():
        found = each.bill
        assert found.total == sum(line.amount for line in found.lines)
        assert found.is_final == (number in finals)
        assert found.total >= 0 or found.is_final
        own = [line.amount for line in found.lines if line.kind is not LineKind.ENTRY]
        assert sum(own) >= 0
        left = sum(e.cents for e in entries if e.account == number) - sum(
            int(100 * line.amount) for line in found.lines if line.kind is LineKind.ENTRY
        )
        assert left <= 0, "what is in favour of an account is never lost"
        assert not left or (found.total == 0 and not found.is_final)
        assert faults(checker, receipt(made, number, world)) == []
    salted = salts(SECRET, made.leaves)
    leaves = [Leaf(account=n, content=content, salt=salted[n]) for n, content in sorted(made.leaves.items())]
    assert not [fault for fault in audit(leaves_file(tree.head, leaves)).faults if "shared" not in fault]


def test_a_final_bill_pays_corrections_out(checker: ModuleType) -> None:
    world = world_of()
    october = computed(stored(world, OCTOBER), world.load)
    account = next(iter(october.billed))
    paid = month_of(october, OCTOBER)
    too_much = paid.billed[account]._replace(cents=paid.billed[account].cents + 5_000)
    earlier = (replace(paid, billed={**paid.billed, account: too_much}),)
    run = replace(stored(world, earlier=earlier), finals=(account,), rules=3)
    made = computed(run, world.load)
    found = made.billed[account].bill
    assert (int(found.lines[-1].amount), found.is_final) == (-50, True)
    assert found.total < 0
    assert made.figures["open_corrections"] == "0.00"
    assert faults(checker, receipt(made, account, world)) == []
    negative = receipt(made, account, world)
    del negative["leaf"]["bill"]["is_final"]
    assert any("is negative, and the bill is no final one" in each for each in faults(checker, negative))
