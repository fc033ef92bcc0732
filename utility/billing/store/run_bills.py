"""Makes runs of bills and computes them again: what commands and the service's job share."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from secrets import token_bytes

from commonwatt.model.exceptions import StoreError
from commonwatt.model.units import AccountNumber, EpochSeconds, quarter_of
from utility.billing.proof import SALT_BYTES, bill_of, digest_of
from utility.billing.rules.lines import Billed, base_after
from utility.billing.run import Progress
from utility.billing.store import billing_sources
from utility.billing.store.documents import documents_of_run
from utility.billing.store.runs import (
    ONCE_ISSUED,
    contents_of,
    issued_numbers,
    run_inputs,
    run_of,
    save_run,
    stored_run,
    tree_of,
)
from utility.billing.stored_run import Computed, StoredRun, computed, first_days
from utility.database.database import Database


def prepared(database: Database, month: str, tariff: str, now: EpochSeconds) -> StoredRun:
    """Return the inputs of a run of a month as they are now.

    Args:
        tariff: The name of the tariff of accounts without one.
        now: When names and addresses are looked up.

    Raises:
        ConfigError: The month has issued bills, or a later one has.
    """
    issued = {number: as_issued(database, number) for number in database.read(issued_numbers)}
    return database.read(run_inputs, month, tariff, issued, quarter_of(now))


def as_issued(database: Database, number: int) -> Mapping[AccountNumber, Billed]:
    """Return the bills of an issued run as it made them: where a row was changed since, computed again."""
    with database.reads.begin() as connection:
        run, row = stored_run(connection, number), run_of(connection, number)
        contents = contents_of(connection, number)
    if digest_of(contents.values()) != row["digest"]:
        log.error("issued run %d of %s: a bill was changed since; corrections start from its inputs", number, run.month)
        return computed_run(database, run).billed
    inputs, bills = run.inputs(), map(bill_of, contents.values())
    return {bill.account: Billed(bill=bill, base=base_after(inputs, bill)) for bill in bills}


def computed_run(database: Database, run: StoredRun, progress: Progress | None = None) -> Computed:
    """Return the bills of a run, from the settled data that counts for it."""
    return computed(run, billing_sources.settled_as_of(database, run.settled), progress)


def beside_before(database: Database, bills: Computed) -> Computed:
    """Return a draft of some days of its month with the sums of as many days of the month issued before."""
    if not (days := bills.figures.get("days")) or not bills.run.previous:
        return bills
    before = database.read(stored_run, bills.run.previous)
    sums = first_days(before, billing_sources.settled_as_of(database, before.settled), days)
    return replace(bills, figures={**bills.figures, "before": {"month": before.month, "figures": sums}})


def saved(database: Database, bills: Computed, person: str, now: EpochSeconds) -> int | None:
    """Store a run in one transaction; return its number as ``save_run`` does."""
    tree = bills.tree(token_bytes(SALT_BYTES))
    done = database.write(save_run, bills, tree, person, now)
    return None if done is None else done[0]


log = logging.getLogger(__name__)

_NEXT = {
    False: "do not issue it, make it again",
    True: "it was issued and stays; the data that it was made of was changed since: compare with a backup",
}


def compare(database: Database, number: int, progress: Progress | None = None) -> None:
    """Compute a run again from its stored inputs, and compare each byte of its bills.

    Raises:
        ConfigError: There is no such run.
        StoreError: The bills differ.
    """
    with database.reads.begin() as connection:
        row = run_of(connection, number)
        run = stored_run(connection, number)
        contents = contents_of(connection, number)
        tree = tree_of(connection, number)
    again = computed_run(database, run, progress)
    different = [n for n in sorted(contents.keys() | again.contents.keys()) if contents.get(n) != again.contents.get(n)]
    documents_of_run(database, number, None).refuse_altered()
    if different or again.digest != row["digest"] or again.tree(tree.secret) != tree:
        accounts = ", ".join(map(str, different[:5])) or "none"
        raise StoreError(
            f"run {number}: computed again from its inputs, {len(different)} bills differ (accounts {accounts}); it "
            f"was made by version {row['code']}, this is {version('commonwatt')}: {_NEXT[row['state'] in ONCE_ISSUED]}"
        )
