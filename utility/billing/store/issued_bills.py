"""Issued bills, one by one: each is the leaf of its issued run, or is refused by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import AccountNumber, EpochSeconds
from utility.billing.bill import Bill
from utility.billing.documents.receipt import quarters_of_accounts
from utility.billing.inputs import RunInputs
from utility.billing.money import to_cents
from utility.billing.policies import POLICIES
from utility.billing.policies.policy import no_base
from utility.billing.proof.altered import AlteredBillError
from utility.billing.store import billing_sources
from utility.billing.store.bill_documents import documents_of_run, is_leaf, is_whole
from utility.billing.store.billing import ONCE_ISSUED, count_bills, newest_issued, run_of, stored_bills, tree_of
from utility.database.database import Database
from utility.database.town_zone import timezone_of
from utility.registry.accounts import functions_of


@dataclass(frozen=True, kw_only=True)
class IssuedBill:
    """An issued bill of an account."""

    no: int  # the number of its run
    month: str  # its local month
    issued: EpochSeconds  # when it was issued
    # What it amounts to, dollars; ``None``: it is not as it was when it was issued, or it is missing.
    total: Decimal | None
    state: str  # of its run: ``issued`` or ``cancelled``


def bill_in(database: Database, number: int, account: AccountNumber) -> Bill:
    """Return an account's bill in a run; of an issued run only if it is as it was then."""
    with database.reads.begin() as connection:
        found = _quickly_proved(database, connection, run_of(connection, number), account)
    if found is not None:
        return found
    bill = documents_of_run(database, number, account).bills[account].bill
    assert bill is not None, "it was compared"
    return bill


def issued_bill(database: Database, number: int, account: AccountNumber) -> Bill | None:
    """Return an account's bill in an issued run, if it is as it was then; ``None``: the run made none for the account.

    Raises:
        AlteredBillError: The bill is not as it was when the run was issued.
    """
    try:
        return bill_in(database, number, account)
    except ConfigError:
        return None


def issued_bills(
    database: Database, account: AccountNumber, limit: int, states: Sequence[str] = ("issued",)
) -> list[IssuedBill]:
    """Return an account's bills in the newest issued runs, or in those in some states, the newest first."""
    runs = database.read(newest_issued, limit, states)
    found = []
    for number, month, issued, state in runs:
        listed = IssuedBill(no=number, month=month, issued=issued, total=None, state=state)
        try:
            bill = issued_bill(database, number, account)
        except AlteredBillError:
            found.append(listed)
            continue
        if bill is not None:
            found.append(replace(listed, total=bill.total))
    return found


def _quickly_proved(
    database: Database, connection: Connection, row: Mapping[str, Any], account: AccountNumber
) -> Bill | None:
    """Return a bill of an issued run that the registry of now proves; ``None``: the run's inputs decide."""
    # The inputs are those of the whole town, and take longer. By whatever registry a bill is the leaf, it is the leaf.
    number, stored = row["no"], stored_bills(connection, row["no"], account).get(account)
    if row["state"] not in ONCE_ISSUED:
        return None
    tree = tree_of(connection, number)
    if stored is None and count_bills(connection, number) == len(tree.hashes) - 1:
        raise ConfigError(f"run {number} of {row['month']} has no bill of account {account}")
    if stored is None or (bill := stored.bill) is None or bill.account != account:
        return None
    policy = POLICIES.get(bill.policy)
    keeps_base = stored.base is not None or policy is None or policy.next_base is not no_base
    if keeps_base or stored.cents != to_cents(bill.total):
        return None
    registry = billing_sources.load_registry_around(connection, account)
    zone = timezone_of(connection)
    inputs = RunInputs(month=row["month"], timezone=zone, registry=registry, tariffs=(), default="")
    load = billing_sources.settled_as_of(database, row["settled_no"])
    kind = functions_of(registry.meters).get(account)
    if kind is None or not is_whole(tree):
        return None
    return bill if is_leaf(tree, kind.value, bill, quarters_of_accounts(inputs, [account], load)[account]) else None
