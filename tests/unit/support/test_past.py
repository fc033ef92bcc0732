"""The past of the demonstration: the same bytes each time, bills that add up with its settled days, nothing missing."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Connection

from commonwatt.audit.folder import PAST
from commonwatt.demo.layout import STARTS_AT
from commonwatt.demo.parts import SHIPPED, unpack
from commonwatt.model.calendar import month_quarters
from commonwatt.model.units import quarter_of
from harness.past.energy import Fault, Span
from harness.past.making import DATABASE, Asked, make, write_archive
from harness.past.office import LATE_PAYER, MOVER
from harness.settlement.emulated import small_town
from utility.access.people import PEOPLE
from utility.access.store.access import people
from utility.alarms.store import past_lives
from utility.billing.bill import LineKind
from utility.billing.store.runs import bills_of_run, runs
from utility.customers.store import newest_contacts, office_key
from utility.database.database import open_database
from utility.energy.quarters import Quantity
from utility.ledger.entry import LedgerKind as EntryKind
from utility.ledger.store import C, balances, entries_where
from utility.registry.store.accounts import load_dated_registry
from utility.registry.store.statements import moves_to_come
from utility.settings import OfficeSettings
from utility.settlement.store.settled import load_settled

FIRST = 20_604  # 31 May 2026, of UTC
FINE = FIRST + 5  # its bills are issued on the fourth day of June


def asked(folder: Path) -> Asked:
    storm = Fault(start=(FIRST + 2) * 86_400, hours=2, announced=(FIRST + 1) * 86_400)
    cut = Fault(start=FINE * 86_400 + 300, hours=0.25)
    span = Span(first=FIRST, fine=FINE, end=FINE * 86_400 + 1_800, faults=(storm, cut))
    return Asked(town=small_town(20), span=span, folder=folder)


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("past")
    make(asked(folder))
    return folder


@contextmanager
def reading(past: Path) -> Iterator[Connection]:
    with (
        closing(open_database(f"sqlite:///{past / DATABASE}", create=False)) as database,
        database.reads.begin() as connection,
    ):
        yield connection


def test_a_past_is_the_same_bytes_each_time(past: Path, tmp_path: Path) -> None:
    digests = []
    make(asked(tmp_path))
    for folder in (past, tmp_path):
        write_archive(asked(folder), folder / "archive")
        digests.append(hashlib.sha256((folder / "archive").read_bytes()).hexdigest())
    assert digests[0] == digests[1]


def test_bills_add_up_with_the_settled_days(past: Path) -> None:
    with reading(past) as connection:
        (run,) = runs(connection, 10)
        bills = bills_of_run(connection, run["no"])
        registry = load_dated_registry(connection)
        settled = load_settled(connection, None, *month_quarters("2026-05", ZoneInfo("America/New_York")))
    assert run["state"] == "issued"
    held = [n for n, meter in enumerate(settled.meters.tolist()) if registry.meters[meter].holdings]
    imported = settled.energies[Quantity.IMPORTED][held].sum()
    billed = sum(line.energy or 0 for bill in bills for line in bill.lines if line.kind is LineKind.IMPORT)
    assert billed == imported > 0


def test_each_account_has_a_name_and_one_moves_out_after_the_end(past: Path) -> None:
    with reading(past) as connection:
        moves = moves_to_come(connection, quarter_of(asked(past).span.end))
        named = newest_contacts(connection, office_key(connection, OfficeSettings(key=past / "utility/office-key")))
        assert set(named) == set(load_dated_registry(connection).accounts)
    assert [account for account, _, is_out in moves if is_out] == [MOVER]


def test_an_island_that_is_over_is_an_alarm_that_ended(past: Path) -> None:
    with reading(past) as connection:
        lives = past_lives(connection, 10)
    assert {(each.alarm.labels["alarm"], each.alarm.since) for each in lives} == {("Island", FINE * 86_400 + 300)}


def test_there_is_a_person_of_each_role_who_needs_a_link(past: Path) -> None:
    with reading(past) as connection:
        found = people(connection)
    assert {role for person in found for role in person.roles} == PEOPLE
    assert {person.state for person in found} == {"invited"}


def test_the_archive_names_the_end_and_the_levels_from_which_the_town_goes_on(past: Path) -> None:
    town = asked(past).town
    levels = json.loads((past / "levels.json").read_text())
    assert set(levels) == {str(meter.id) for meter in town.meters if meter.battery}


def test_the_shipped_past_opens_with_the_present_schema_and_is_small(tmp_path: Path) -> None:
    assert SHIPPED.stat().st_size <= 12_000_000
    unpack(tmp_path)
    with reading(tmp_path / "utility") as connection:
        months = {run["month"] for run in runs(connection, 100) if run["state"] == "issued"}
        assert {role for person in people(connection) for role in person.roles} == PEOPLE
        assert set(balances(connection)) == {LATE_PAYER}
        assert {each.account for each in entries_where(connection, C.kind == EntryKind.REMINDER)} == {LATE_PAYER}
        moves = moves_to_come(connection, quarter_of(STARTS_AT))
        assert [account for account, _, is_out in moves if is_out] == [MOVER]
        assert {each.alarm.labels["alarm"] for each in past_lives(connection, 10)} == {"Island"}
        key = office_key(connection, OfficeSettings(key=tmp_path / "utility" / "office-key"))
        assert set(newest_contacts(connection, key)) == set(load_dated_registry(connection).accounts)
    assert (min(months), max(months), len(months)) == ("2025-05", "2026-05", 13)
    assert json.loads((tmp_path / PAST).read_text()) == {"until": STARTS_AT}
    assert not (tmp_path / "secret").exists()
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []
