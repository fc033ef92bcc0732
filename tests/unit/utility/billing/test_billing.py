"""Tariffs and runs of bills in the database (rows 19 to 21), and who would pay more by new prices."""

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select
from typer.testing import CliRunner

from commonwatt.model.exceptions import ConfigError
from commonwatt.town.town import Function
from harness.billing.worlds import KWH, World, found_in_store, late, published, tariff, world_of
from harness.commands import WHO, logged_in, shown, typed
from harness.surroundings import databases
from utility.billing import cli as cli_bills
from utility.billing.bill import steps_of
from utility.billing.documents.pdf import as_pdf
from utility.billing.preview import BillChange, preview, sentences, year
from utility.billing.proof import check_code
from utility.billing.store import billing_sources
from utility.billing.store.documents import documents_of, issued_documents
from utility.billing.store.run_bills import compare, computed_run, prepared, saved
from utility.billing.store.runs import SERVICE, bills_of_run, contents_of, is_billed, run_of, runs
from utility.billing.stored_run import Computed
from utility.billing.tables import bill, bill_run
from utility.database.database import Database, open_database
from utility.energy.quarters import Quantity
from utility.registry.accounts import Account, Dated
from utility.statistics import cli as cli_tariff
from utility.tariffs import store as tariffs

NOW = 1_800_000_000
EXAMPLE = Path(__file__).parents[4] / "docs/examples/tariff.toml"
Command = Callable[..., str]


@pytest.fixture(name="world")
def _world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a town whose registry and settled data the store's functions find."""
    return found_in_store(monkeypatch, world_of())


publish = partial(published, now=NOW)


@pytest.fixture(name="people")
def _people(tmp_path: Path, url: str, kind: str, database: Database) -> Iterator[Command]:
    """Run a command of ``tariff`` or ``bills``, or ``do``, which must exit with ``code``; return its output."""
    config = tmp_path / "utility.toml"
    if kind == "postgresql":
        url = url.replace("@", ":secret@")
    config.write_text(f'[utility]\ndatabase = "{url}"\n')
    apps = {"tariff": cli_tariff.app, "bills": cli_bills.app}

    def run(app: str, *words: str, code: int = 0, offline: bool = False) -> str:
        if app == "do":
            return typed(config, database, app, *words, code=code)
        needs = [] if offline or (words[0] == "check" and app == "tariff") else ["--config", str(config)]
        with logged_in(database, config, words) as left:
            done = CliRunner(env={"COLUMNS": "200"}).invoke(apps[app], [*left, *needs])
        assert done.exit_code == code, done.output
        return " ".join(done.output.split())

    yield run
    assert database is not None


def number_of(said: str) -> int:
    """Return the number of what a command made, as it prints it."""
    return int(re.findall(r" no (\d+) ", said)[0])


def issued(database: Database, people: Command, month: str) -> int:
    number = number_of(people("do", "runs", f"month={month}", "--as", "anna"))
    people("do", f"runs/{number}/check", "--as", "anna")
    people("do", f"runs/{number}/issue", "--as", "ben")
    return number


@databases.on_both_kinds
def test_tariff_is_proposed_by_one_person_and_published_by_another(
    people: Command, database: Database, tmp_path: Path
) -> None:
    file, later = str(EXAMPLE), tmp_path / "later.toml"
    later.write_text(EXAMPLE.read_text().replace("2026-10-01", "2027-10-01"))
    assert "good" in people("tariff", "check", file)
    assert "log in with: commonwatt login" in people("tariff", "propose", file, code=2)
    assert "town v1, from 2026-10-01" in people("tariff", "propose", file, "--as", "anna")
    approve = "do", "tariffs/town/1/approve"
    assert "anna proposed it; a second person" in people(*approve, "--as", "anna", code=2)
    assert "approved by ben" in people(*approve, "--as", "ben")
    assert "published" in people(*approve, "--as", "ben", code=2)
    assert "begins before a published version" in people("tariff", "propose", file, "--as", "anna", code=2)
    people("tariff", "propose", str(later), "--as", "anna")
    asks = people("tariff", "propose", str(later), "--as", "ben", code=2)
    assert "town v2, which anna proposed, begins at the same time" in asks
    people("tariff", "propose", str(later), "--replaces", "2", "--as", "ben")
    listed = shown(tmp_path / "utility.toml", "tariffs", WHO, "anna")["tariffs"]
    assert [one["state"] for one in listed] == ["published", "replaced", "proposed"]
    with database.reads.begin() as connection:
        (stored,) = tariffs.published(connection)
    assert stored.label == "town v1"


def test_tariff_with_hours_of_another_zone_is_refused(people: Command, tmp_path: Path) -> None:
    file = tmp_path / "tariff.toml"
    file.write_text(EXAMPLE.read_text().replace("America/New_York", "Europe/Berlin"))
    words = people("tariff", "propose", str(file), "--as", "anna", code=2)
    assert "town: its timezone is Europe/Berlin, and the town's is America/New_York" in words
    assert 'write timezone = "America/New_York" into its [tariff]' in words


def test_change_of_rates_in_the_past_is_refused(database: Database) -> None:
    publish(database, tariff())
    with database.writes.begin() as connection:
        with pytest.raises(ConfigError, match="town: it begins in the past"):
            tariffs.propose(connection, tariff(effective="2026-02-01"), "", "anna", NOW)
        tariffs.propose(connection, tariff(effective="2026-02-01"), "", "anna", 0)
        with pytest.raises(ConfigError, match="town v2: it begins in the past"):
            tariffs.publish(connection, "town", 2, "ben", NOW)


@databases.on_both_kinds
def test_run_is_made_checked_and_issued_by_two_people(
    people: Command, database: Database, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(database, tariff())
    first = people("do", "runs", "month=2026-10", "--as", "anna")
    assert number_of(first) == 1
    assert people("do", "runs", "month=2026-10", "--as", "ben") == first, "the same inputs make no second run"
    assert "only a checked run" in people("do", "runs/1/issue", "--as", "ben", code=2)
    assert "checked by anna" in people("do", "runs/1/check", "--as", "anna")
    assert "anna checked it" in people("do", "runs/1/issue", "--as", "anna", code=2)
    assert "issued by ben" in people("do", "runs/1/issue", "--as", "ben")
    assert "bills of 2026-10 are issued and stay" in people("do", "runs", "month=2026-10", "--as", "anna", code=1)
    assert "only a draft" in people("do", "runs/1/check", "--as", "anna", code=1)
    account = min(each.account for each in _bills(database, 1))
    config, as_anna = tmp_path / "utility.toml", (WHO, "anna")
    assert shown(config, "runs", "1", "bills", str(account), *as_anna)["account"] == account
    (listed,) = shown(config, "runs", *as_anna)["runs"]
    assert (listed["state"], listed["checked_by"], listed["issued_by"]) == ("issued", "anna", "ben")
    code = people("bills", "explain", str(account), "2026-10").split("check code of the month: ")[1].split()[0]
    receipt = json.loads(people("bills", "receipt", str(account), "2026-10"))
    assert receipt["leaf"]["account"] == account
    assert check_code(receipt["head"]) == code
    out = tmp_path / "receipt.json"
    assert "check it: python" in people("bills", "receipt", str(account), "2026-10", "--out", str(out))
    assert json.loads(out.read_text()) == receipt
    said = people("bills", "explain", str(account), "2026-10")
    assert f"account {account}, 2026-10, town v1" in said
    assert "days (31 shown)" in said
    assert "2026-10-31" in said
    hours = json.loads(people("bills", "explain", str(account), "2026-10", "--day", "2026-10-31", "--json"))["steps"]
    assert [hour["from"] for hour in hours][:2] == ["2026-10-31 00:00 -0400", "2026-10-31 01:00 -0400"]
    assert "(4 shown)" in people("bills", "explain", str(account), "2026-10", "--day", "2026-10-31", "--hour", "17")
    assert "is no day" in people("bills", "explain", str(account), "2026-10", "--day", "x", code=2)
    assert "--hour needs --day" in people("bills", "explain", str(account), "2026-10", "--hour", "1", code=2)
    leaves = tmp_path / "leaves.jsonl"
    said = people("bills", "leaves", "2026-10", "--out", str(leaves))
    assert f"{len(_bills(database, 1)) + 1} leaves of 2026-10" in said
    assert "nothing is wrong" in people("bills", "audit", str(leaves), "--code", code, offline=True)
    boundary = tmp_path / "boundary.csv"
    boundary.write_text("microgrid,imported_mwh,exported_mwh,allowed_mwh\nr1,1,0,0\n")
    said = people("bills", "audit", str(leaves), "--boundary", str(boundary), code=1, offline=True)
    assert "WRONG: microgrid r1: its members imported" in said
    boundary.write_text("microgrid,imported_mwh\nr1,1\n")
    said = people("bills", "audit", str(leaves), "--boundary", str(boundary), code=2, offline=True)
    assert "boundary.csv:2: needs whole numbers" in said
    leaves.write_text(leaves.read_text().replace('"amount":"12.00"', '"amount":"12.01"', 1))
    said = people("bills", "audit", str(leaves), "--code", "00", code=1, offline=True)
    assert "WRONG: the root of the leaves is" in said
    assert "the lines sum to" in said
    assert "the printed check code is another one" in said
    folder = tmp_path / "paper"
    said = people("bills", "print", "2026-10", "--out", str(folder), "--account", str(account))
    assert said.endswith("1 bill of 2026-10, run 1, issued")
    assert (folder / f"2026-10-{account}.pdf").read_bytes().startswith(b"%PDF")
    people("bills", "print", "2026-10", "--out", str(folder))
    assert len(list(folder.glob("*.pdf"))) == len(_bills(database, 1))
    assert "no bill of account 9999" in people("bills", "receipt", "9999", "2026-10", code=2)
    assert "there is no run" in people("bills", "receipt", "1", "2026-11", code=2)
    for words, told in ((("runs/1/bills/9999",), "no bill of account 9999"), (("runs", "7"), "no run of bills")):
        with pytest.raises(SystemExit):
            shown(config, *words, *as_anna)
        assert told in capsys.readouterr().err


@databases.on_both_kinds
def test_late_data_after_the_bill_is_a_line_of_the_next_one(
    people: Command, database: Database, world: World
) -> None:  # row 21
    publish(database, tariff())
    october = issued(database, people, "2026-10")
    before = _contents(database, october)
    account = late(world, Quantity.IMPORTED, 100 * KWH)
    november = issued(database, people, "2026-11")
    assert _contents(database, october) == before, "issued bills stay"
    lines = {each.account: [line for line in each.lines if line.month] for each in _bills(database, november)}
    assert {number: [str(line.amount) for line in of] for number, of in lines.items() if of} == {account: ["20.00"]}
    run = prepared(database, "2026-12", "town", NOW)
    corrected = {month.month: month.billed[account].cents for month in run.earlier}
    own = {each.account: each.total for each in _bills(database, october)}[account]
    assert Decimal(corrected["2026-10"]) / 100 == own + 20, "a correction is billed once"


def test_a_month_that_has_not_begun_is_not_billed(people: Command, database: Database, world: World) -> None:
    publish(database, tariff())
    assert "2098-05: this month has not begun" in people("do", "runs", "month=2098-05", "--as", "anna", code=1)
    with database.reads.begin() as connection:
        assert runs(connection, 9) == []


@databases.on_both_kinds
def test_two_schedulers_make_one_run_of_a_month(database: Database, world: World) -> None:  # row 20
    publish(database, tariff())
    first = prepared(database, "2026-10", "town", NOW)
    assert saved(database, computed_run(database, first), SERVICE, NOW) == 1
    world.settled.version[0, 0] += 1
    second = prepared(database, "2026-10", "town", NOW)
    assert second.settled > first.settled
    assert saved(database, computed_run(database, second), SERVICE, NOW) is None
    assert _counts(database)[0] == 1
    with database.reads.begin() as connection:
        assert is_billed(connection, "2026-10")


@databases.on_both_kinds
def test_process_killed_at_any_statement_leaves_no_half_run(database: Database, world: World, url: str) -> None:
    publish(database, tariff())
    bills = computed_run(database, prepared(database, "2026-10", "town", NOW))
    database.disconnect()  # connections must not be shared with a fork
    kills = 0
    while in_fork(partial(save_killed, url, bills, kills)) == -signal.SIGKILL:
        assert _counts(database) == (0, 0)
        database.disconnect()
        kills += 1
    assert kills > 2
    assert _counts(database) == (1, len(bills.contents))
    with database.reads.begin() as connection:
        (row,) = runs(connection, 2)
    assert saved(database, bills, "anna", NOW + 1) == row["no"], "the same inputs make no second run"
    compare(database, row["no"])


@databases.on_both_kinds
def test_two_processes_make_one_run_of_a_month(database: Database, world: World, url: str) -> None:  # row 20
    publish(database, tariff())
    made = []
    for _ in range(2):
        made.append(computed_run(database, prepared(database, "2026-10", "town", NOW)))
        world.settled.version[0, 0] += 1
    database.disconnect()
    forks = [fork(partial(save_killed, url, bills, -1)) for bills in made]
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in forks] == [0, 0]
    assert _counts(database) == (1, len(made[0].contents))


def save_killed(url: str, bills: Computed, at: int) -> None:
    """Store a run as the service's job does; the process kills itself before a statement or commit, if ``at`` >= 0."""
    database = open_database(url, create=False)
    if at >= 0:
        left = iter([False] * at + [True])

        def kill(*_: object) -> None:
            if next(left, False):
                os.kill(os.getpid(), signal.SIGKILL)

        event.listen(database.writes, "before_cursor_execute", kill)
        event.listen(database.writes, "commit", kill)
    saved(database, bills, SERVICE, NOW)


def fork(work: Callable[[], object]) -> int:
    """Do some work in a fork; return its process id."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def in_fork(work: Callable[[], object]) -> int:
    """Do some work in a fork; return its exit code, the negative signal if it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(fork(work), 0)[1])


def test_provisional_run_is_marked_and_not_issued(people: Command, database: Database, world: World) -> None:  # row 19
    publish(database, tariff())
    world.settled.provisional[0, -1] = True
    said = people("do", "runs", "month=2026-11", "--as", "anna")
    assert "quarter-hours that may still change in 1 bill" in said
    people("do", "runs/1/check", "--as", "anna")
    assert "wait for the deadline" in people("do", "runs/1/issue", "--as", "ben", code=2)
    world.settled.provisional[0, -1] = False
    assert number_of(people("do", "runs", "month=2026-11", "--as", "anna")) == 2, "final without a new version"
    with database.reads.begin() as connection:
        assert run_of(connection, 2)["figures"]["provisional"] == 0
    compare(database, 1)  # the first run has the same bytes still
    world.settled.quality[0, -1] = 1
    world.settled.version[0, 0] += 1
    assert "estimated quarter-hours in 1 bill" in people("do", "runs", "month=2026-11", "--as", "anna")
    people("do", "runs/3/check", "--as", "anna")
    people("do", "runs/3/issue", "--as", "ben")


def test_run_that_another_month_overtook_is_not_issued(people: Command, database: Database, world: World) -> None:
    publish(database, tariff())
    people("do", "runs", "month=2026-11", "--as", "anna")
    people("do", "runs/1/check", "--as", "anna")
    issued(database, people, "2026-10")
    assert "was made before another run was issued or cancelled" in people("do", "runs/1/issue", "--as", "ben", code=2)


def test_run_whose_bills_differ_when_computed_again_is_not_checked(
    people: Command, database: Database, world: World, tmp_path: Path
) -> None:
    publish(database, tariff())
    people("do", "runs", "month=2026-10", "--as", "anna")
    account = late(world, Quantity.IMPORTED, 100 * KWH)
    assert "1 bills differ" in people("do", "runs/1/check", "--as", "anna", code=1)
    out = tmp_path / "out"
    said = people("bills", "receipt", str(account), "2026-10", "--out", str(out), code=1)
    assert "are not those that the run was made of" in said
    assert "its tree is another one" in people("bills", "leaves", "2026-10", "--out", str(out), code=1)
    assert not out.exists()
    with database.reads.begin() as connection:
        assert run_of(connection, 1)["state"] == "draft"


def test_preview_shows_winners_losers_and_a_histogram(
    people: Command, database: Database, world: World, tmp_path: Path
) -> None:
    publish(database, tariff())
    cheaper = tmp_path / "cheaper.toml"
    cheaper.write_text(EXAMPLE.read_text().replace('base = "12.00"', 'base = "2.00"'))
    out = tmp_path / "preview.csv"
    said = people("tariff", "preview", str(cheaper), "--month", "2026-10", "--csv", str(out))
    accounts = len({h.account for m in world.inputs.registry.meters.values() for h in m.holdings})
    assert f"0 of {accounts} accounts would have paid more in 2026-10, {accounts} less and 0 the same." in said
    assert "dollars more -" in said
    assert "####" in said
    rows = out.read_text().splitlines()
    assert rows[0] == "account,before_dollars,after_dollars,difference_dollars"
    assert len(rows) == accounts + 1


def test_run_without_a_tariff_says_what_to_do(people: Command, world: World) -> None:
    said = people("do", "runs", "month=2026-10", "--as", "anna", code=1)
    assert "no tariff 'town' is in force on 2026-10-01 00:00; publish one" in said


def test_run_with_an_accounts_tariff_that_is_none_names_the_account(
    people: Command, database: Database, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(database, tariff())
    slip = {n: Account(number=n, function=Function.HOUSE, tariffs=(Dated(start=0, value="twon"),)) for n in (1, 3)}
    registry = replace(world.inputs.registry, accounts=slip)
    monkeypatch.setattr(billing_sources, "load_registry", lambda _: registry)
    said = people("do", "runs", "month=2026-10", "--as", "anna", code=1)
    assert "no tariff 'twon' is in force on 2026-10-01 00:00 (given to account 1 and 1 more); publish one" in said


def _counts(database: Database) -> tuple[int, int]:
    with database.reads.begin() as connection:
        runs, bills = (connection.execute(select(func.count()).select_from(t)).scalar_one() for t in (bill_run, bill))
    return runs, bills


def _contents(database: Database, number: int) -> dict[int, bytes]:
    with database.reads.begin() as connection:
        return contents_of(connection, number)


def _bills(database: Database, number: int) -> list[Any]:
    with database.reads.begin() as connection:
        return list(bills_of_run(connection, number))


def test_documents_of_one_account_are_those_of_the_whole_run(people: Command, database: Database, world: World) -> None:
    publish(database, tariff())
    people("do", "runs", "month=2026-10", "--as", "anna")
    account = min(each.account for each in _bills(database, 1))
    with pytest.raises(ConfigError, match=f"2026-10: no bill of account {account} is issued"):
        issued_documents(database, ("2026-10", 0), account)
    people("do", "runs/1/check", "--as", "anna")
    people("do", "runs/1/issue", "--as", "ben")
    whole, own = documents_of(database, "2026-10"), issued_documents(database, ("2026-10", 0), account)
    assert own.receipt(account) == whole.receipt(account)
    (ours,), (its,) = own.statements([account]), whole.statements([account])
    assert as_pdf(ours) == as_pdf(its)
    assert {*own.bills, *own.run.registry.accounts, *own.run.bases} == {account}, "nothing of others"
    assert all(account in {h.account for h in m.holdings} for m in own.run.registry.meters.values())
    assert own.run.earlier == ()
    with pytest.raises(ConfigError, match="no bill of account 9999 is issued"):
        issued_documents(database, ("2026-10", 0), 9999)


def change(account: int, before: str | None, after: str) -> BillChange:
    return BillChange(account=account, before=None if before is None else Decimal(before), after=Decimal(after))


def test_sentences_say_who_pays_how_much_more() -> None:
    changes = [change(1, "10.00", "9.00"), change(2, "20.00", "20.00"), change(3, "10.00", "15.00")]
    assert sentences(year([("2026-10", changes)])) == [
        "1 of 3 accounts would have paid more in 2026-10, 1 less and 1 the same.",
        "All bills together: 44.00 dollars in place of 40.00, +4.00 (+10.0 %).",
        "The middle change is +0.00 dollars; the changes reach from -1.00 (account 1) to +5.00 (account 3).",
    ]


def test_month_without_readings_is_no_comparison() -> None:
    world = world_of()
    assert preview(world.inputs, tariff(), world.load)
    world.settled.version[:] = 0
    assert preview(world.inputs, tariff(), world.load) == []


def test_sentences_without_earlier_prices_or_accounts() -> None:
    assert "since no tariff was in force" in sentences(year([("2026-10", [change(1, None, "9.00")])]))[1]
    assert sentences(year([("2026-10", [])])) == ["No account has a bill in that time."]


def test_a_year_says_its_dearest_and_its_cheapest_month_and_for_whom() -> None:
    made = year(
        [
            ("2026-12", [change(1, "10.00", "19.00"), change(2, "20.00", "21.00")]),
            ("2027-05", [change(1, "10.00", "10.10"), change(2, "20.00", "19.00")]),
        ]
    )
    assert [(each.month, each.all.difference, each.high.account) for each in made.months] == [
        ("2026-12", Decimal("10.00"), 1),
        ("2027-05", Decimal("-0.90"), 1),
    ]
    assert sentences(made) == [
        "1 of 2 accounts would have paid more in the 2 months 2026-12 to 2027-05, 0 less and 1 the same.",
        "All bills together: 69.10 dollars in place of 60.00, +9.10 (+15.2 %).",
        "The middle change is +4.55 dollars; the changes reach from +0.00 (account 2) to +9.10 (account 1).",
        "Dearest is 2026-12: +10.00 dollars for all, up to +9.00 (account 1).",
        "Cheapest is 2027-05: -0.90 dollars for all, down to -1.00 (account 2).",
    ]


def test_steps_are_round_and_few() -> None:
    assert steps_of([]) == []
    assert steps_of([-3, 4]) == [(Decimal(n) / 100, Decimal(n + 1) / 100, int(n in (-3, 4))) for n in range(-3, 5)]
    found = steps_of([0, 199, 7488])
    assert found[0] == (Decimal(0), Decimal(5), 2)
    assert found[-1] == (Decimal(70), Decimal(75), 1)
