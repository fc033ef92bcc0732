"""The proof of issued bills on SQLite: one account's bill as every reader opens it, and all bills of a month."""

import tempfile
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from statistics import median

from benchmarks.databases import utility_database
from commonwatt.town.loading import WHOLE_TOWN, load_town
from harness.billing.worlds import tariff
from harness.docs.measured import Goal, Section, Table, number
from harness.settlement.emulated import small_town
from harness.statistics.stored import random_day, settle
from utility.billing.store.bill_documents import documents_of
from utility.billing.store.billing import check_run, issue_run
from utility.billing.store.issued_bills import bill_in
from utility.billing.store.run_bills import computed_run, prepared, saved
from utility.database.database import Database
from utility.settlement.store.settlement_members import owners
from utility.tariffs.store import tariffs

MONTH = "2026-10"
FIRST = (date(2026, 10, 1) - date(1970, 1, 1)).days
DAYS = range(FIRST - 1, FIRST + 33)

ONE_MS, ALL_S = 50, 20  # the goals: processor milliseconds of one account's bill, processor seconds of all

_LIMIT = "SQLite's reading of a month of quarter-hours, and their digests."


def bench(*, smoke: bool = False) -> Section:
    """Issue a month of the town, and prove its bills."""
    town = small_town() if smoke else load_town(WHOLE_TOWN)
    with (
        tempfile.TemporaryDirectory() as folder,
        utility_database(f"sqlite:///{folder}/utility.db", town) as database,
    ):
        with database.writes.begin() as connection:
            members = list(owners(connection).values())
            proposed = tariffs.propose(connection, tariff(), "", "anna", 1)
            tariffs.publish(connection, proposed.name, proposed.version, "ben", 1)
        for day in DAYS:
            settle(database, members, random_day(members, day))
        accounts = _issue(database)
        one = [_cpu_s(partial(bill_in, database, 1, account)) for account in accounts[:: len(accounts) // 9]]
        proved = _cpu_s(lambda: documents_of(database, MONTH).refuse_altered())
    return Section(
        title="Proof of issued bills",
        about=f"A month of {len(accounts):,} accounts with random settled quarter-hours in SQLite. A bill is compared "
        "with its leaf in the tree of its issued run, each time anew, in CPU seconds of one core.",
        goals=(
            Goal(
                what="one account's bill, median",
                value=1000 * median(one),
                unit="ms",
                at_most=ONE_MS,
                limited_by=_LIMIT,
            ),
            Goal(what="all bills of the month", value=proved, unit="s", at_most=ALL_S, limited_by=_LIMIT),
        ),
        tables=(
            Table(
                title="Comparing bills with their leaves",
                columns=("what", "CPU seconds"),
                rows=(
                    ("one account's bill, median of some", number(median(one))),
                    (f"all {len(accounts):,} bills", number(proved)),
                ),
            ),
        ),
    )


def _issue(database: Database) -> list[int]:
    """Issue the month's bills; return their accounts."""
    bills = computed_run(database, prepared(database, MONTH, "town", 1))
    run = saved(database, bills, "anna", 1)
    assert run == 1
    with database.writes.begin() as connection:
        check_run(connection, run, "ben", 2)
        issue_run(connection, run, "cleo", 3)
    return sorted(bills.billed)


def _cpu_s(prove: Callable[[], object]) -> float:
    start = time.process_time()
    prove()
    return time.process_time() - start
