"""Reads what documents of a bill are made of: its run, its tree, its settled quarter-hours, its letter.

Every reader of issued bills comes through here: a bill that is not a leaf of its issued run's tree is refused by name.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from threading import Lock
from typing import Any, Generic, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from commonwatt.model.calendar import local_day
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.units import AccountNumber, EpochSeconds
from utility.billing.bill import Bill, to_cents
from utility.billing.documents.receipt import proved_leaf, quarters_of_accounts, receipt_of
from utility.billing.documents.statement import Statement, letter_of
from utility.billing.inputs import Load, RunInputs, replayed
from utility.billing.proof import (
    AlteredBillError,
    Json,
    Leaf,
    MeterQuarters,
    Signed,
    check_code,
    chosen,
    customer_of,
    digest_of,
    root,
    salts,
)
from utility.billing.rules.lines import base_after
from utility.billing.rules.policies import POLICIES, no_base
from utility.billing.run import Progress
from utility.billing.store import billing_sources
from utility.billing.store.runs import (
    ONCE_ISSUED,
    StoredBill,
    contents_of,
    count_bills,
    count_runs,
    issued_run,
    latest_run,
    newest_issued,
    run_of,
    stored_bills,
    stored_run,
    tree_of,
)
from utility.billing.store.witnesses import signed_of
from utility.billing.stored_run import StoredRun, Tree, computed
from utility.customers.store import contact_of, office_key
from utility.database.database import Database
from utility.database.town_zone import timezone_of
from utility.ledger.store import owed_before
from utility.readings.store.parts import chunks
from utility.registry.accounts import functions_of
from utility.settings import UtilitySettings
from utility.tariffs.file import BillTable

CHUNK_ACCOUNTS = 500  # accounts whose quarter-hours are in memory at once, about 100 MB


@dataclass(frozen=True, kw_only=True)
class RunDocuments:
    """What the documents of a run's bills are made of."""

    number: int  # the run's number
    state: str  # ``draft``, ``checked``, ``issued`` or ``cancelled``
    run: StoredRun  # its inputs
    tree: Tree  # the tree over its bills
    count: int  # the number of its bills
    bills: dict[AccountNumber, StoredBill]  # its bills, or some of them, by account
    load: Load  # returns the settled quarter-hours that it was made of
    signed: Sequence[Signed] = ()  # the signatures of controllers under its check code

    def bill(self, account: AccountNumber, quarters: Sequence[MeterQuarters] | None = None) -> Bill:
        """Return the bill of an account; of an issued run only if it is a leaf of the run's tree.

        Args:
            quarters: The settled quarter-hours of its meters; ``None``: they are loaded.

        Raises:
            ConfigError: The run has none.
            AlteredBillError: The run is issued, and the bill is not as it was then.
        """
        stored = self.bills.get(account)
        what, bill = "", None if stored is None else stored.bill
        is_out = self.state in ONCE_ISSUED
        if bill is None and not (is_out and (stored or self.may_lack(account))):
            raise ConfigError(f"run {self.number} of {self.run.month} has no bill of account {account}")
        if bill is not None and not is_out:
            return bill
        if not self._is_whole:
            what = "the run's tree is not the one of its check code"
        elif stored is None:
            what = "its bill is missing" if account in self._holders else "a bill is missing, perhaps its own"
        elif bill is None or bill.account != account:
            what = "its bill can't be read" if bill is None else f"its bill is that of account {bill.account}"
        elif stored.cents != to_cents(bill.total):
            what = f"its amount is {stored.cents} cents, its bill says {to_cents(bill.total)}"
        elif not is_leaf(self.tree, customer_of(self.run.registry, account), bill, quarters or self.quarters(account)):
            what = "its bill is not the one in the run's tree"
        elif stored.base != (base := base_after(self._inputs, bill)):
            what = f"its next base is {stored.base}, its bill gives {base}"
        if what or bill is None:
            raise AlteredBillError(self.number, self.run.month, account, what)
        return bill

    @cached_property
    def _is_whole(self) -> bool:
        return is_whole(self.tree)

    @cached_property
    def _inputs(self) -> RunInputs:
        return self.run.inputs()

    @cached_property
    def _holders(self) -> set[AccountNumber]:
        """The accounts that had a meter in the month."""
        inputs = self._inputs
        of = (meter.held(inputs.first, inputs.until) for meter in inputs.registry.meters.values())
        return {account for spans in of for account, _, _ in spans}

    def table(self, bill: Bill) -> BillTable | None:
        """Return how the tariff of a bill has bills written; ``None``: it does not say."""
        # A bill of corrections or entries alone has no tariff of its own.
        label = bill.tariff[-1] if bill.tariff else self._inputs.segments(bill.account)[-1].tariff.label
        return next((each.file.bill for each in self._inputs.tariffs if each.label == label), None)

    @property
    def _lacks_bills(self) -> bool:
        return self.state in ONCE_ISSUED and self.count != len(self.tree.hashes) - 1

    def may_lack(self, account: AccountNumber) -> bool:
        """Return whether an issued run lacks bills, and one may be that of this account, with a meter or without."""
        meters = self.run.registry.meters.values()
        return self._lacks_bills and any(each.account == account for meter in meters for each in meter.holdings)

    @property
    def accounts(self) -> list[AccountNumber]:
        """The accounts that have a bill; where an issued run lacks some, those that had a meter, too."""
        return sorted({*self.bills, *(self._holders if self._lacks_bills else ())})

    def quarters(self, account: AccountNumber) -> list[MeterQuarters]:
        """Return the settled quarter-hours of an account's meters."""
        return quarters_of_accounts(self._inputs, [account], self.load)[account]

    def statements(self, accounts: Sequence[AccountNumber]) -> Iterator[Statement]:
        """Yield what the printed bills of some accounts show.

        Raises:
            ConfigError: The run has no bill of one of them.
        """
        zone = ZoneInfo(self.run.timezone)
        for some in chunks(accounts, CHUNK_ACCOUNTS):
            quarters = quarters_of_accounts(self._inputs, set(some), self.load)
            for account in some:
                yield Statement(
                    bill=self.bill(account, quarters[account]),
                    customer=customer_of(self.run.registry, account),
                    zone=zone,
                    meters=tuple(quarters[account]),
                    state=self.state,
                    head=self.tree.head,
                )

    def receipt(self, account: AccountNumber) -> Json:
        """Return the receipt of an account's bill.

        Raises:
            ConfigError: The run has no bill of it.
            StoreError: Bill and quarter-hours are not those of the tree.
        """
        quarters = self.quarters(account)
        found = receipt_of(self._inputs, self.tree, self.bill(account, quarters), quarters)
        streets = {each.microgrid for each in quarters}
        witnesses = chosen(self.signed, check_code(self.tree.head), streets)
        return found | ({"witnesses": witnesses} if witnesses else {})

    def refuse_altered(self) -> None:
        """Compare every bill of an issued run with its leaf.

        Raises:
            AlteredBillError: One is not as it was when the run was issued; the first is named.
        """
        for some in chunks(self.accounts, CHUNK_ACCOUNTS):
            quarters = quarters_of_accounts(self._inputs, set(some), self.load)
            for account in some:
                self.bill(account, quarters[account])
        if self._lacks_bills:
            what = f"it was issued with {len(self.tree.hashes) - 1} bills, the database has {self.count}"
            raise AlteredBillError(self.number, self.run.month, None, what)


def refuse_altered(database: Database, number: int) -> None:
    """Refuse an issued run of which a bill is not as it was; a run that is whole takes one reading of its bills.

    Raises:
        AlteredBillError: A bill differs, or is missing; the first is named.
    """
    with database.reads.begin() as connection:
        run = run_of(connection, number)
        if run["state"] not in ONCE_ISSUED:
            return
        rows = stored_bills(connection, number)
        is_whole = digest_of(contents_of(connection, number).values()) == run["digest"]
    same = all(row.bill is not None and row.cents == to_cents(row.bill.total) for row in rows.values())
    if is_whole and same:
        return
    documents_of_run(database, number, None).refuse_altered()
    raise AlteredBillError(number, run["month"], None, "its bills are not those of its digest")


def leaves_of(documents: RunDocuments, progress: Progress | None = None) -> list[Leaf]:
    """Return every leaf of a run, by computing it again."""
    documents.refuse_altered()
    again = computed(documents.run, documents.load, progress)
    if again.tree(documents.tree.secret) != documents.tree:
        raise StoreError(
            f"run {documents.number}: computed again from its inputs, its tree is another one: the settled data that "
            "it was made of has changed, or it was made by another version"
        )
    salted = salts(documents.tree.secret, again.leaves)
    return [Leaf(account=number, content=of, salt=salted[number]) for number, of in sorted(again.leaves.items())]


def documents_of(database: Database, month: str) -> RunDocuments:
    """Return what the documents of a month's bills are made of: of the issued run, else of the newest one."""
    with database.reads.begin() as connection:
        number = latest_run(connection, month)
        if number is None:
            raise ConfigError(f"{month}: there is no run of bills", f"make it: commonwatt do runs month={month}")
        return _documents(database, connection, number, None)


def documents_of_run(database: Database, number: int, account: AccountNumber | None) -> RunDocuments:
    """Return what the documents of one account's bill in a run, or of all, are made of, whatever the run's state.

    Raises:
        ConfigError: There is no such run, or it has no bill of the account, or no proofs.
        AlteredBillError: The run is issued, and the bill is not as it was then.
    """
    with database.reads.begin() as connection:
        run_of(connection, number)
        found = _documents(database, connection, number, account)
    if account is not None:
        found.bill(account)
    return found


def is_whole(tree: Tree) -> bool:
    """Return whether the hashes of a tree's leaves lead to the root that its check code covers."""
    return bool(root(tree.hashes).hex() == tree.head["root"])


def is_leaf(tree: Tree, customer: str, bill: Bill, quarters: Sequence[MeterQuarters]) -> bool:
    """Return whether a bill with the kind of its place and its quarter-hours is a leaf of a tree."""
    try:
        return proved_leaf(tree, customer, bill, quarters)[1] >= 0
    except TypeError:  # A number that no leaf has.
        return False


def issued_documents(database: Database, key: tuple[str, int], account: AccountNumber) -> RunDocuments:
    """Return what the documents of one account's issued bill are made of; the run's inputs have nothing of others.

    Args:
        key: The month, and the number of a cancelled run of it whose bill is wanted; 0: that of the issued run.

    Raises:
        ConfigError: The account has no issued bill of the month.
    """
    month, cancelled = key
    with database.reads.begin() as connection:
        number = issued_run(connection, month)
        if cancelled and [run_of(connection, cancelled)[key] for key in ("month", "state")] == [month, "cancelled"]:
            number = cancelled
        if number is None:
            raise ConfigError(f"{month}: no bill of account {account} is issued")
        found = _documents(database, connection, number, account)
    if account not in found.bills and not found.may_lack(account):
        raise ConfigError(f"{month}: no bill of account {account} is issued")
    found.bill(account)
    return found


def _documents(database: Database, connection: Connection, number: int, account: AccountNumber | None) -> RunDocuments:
    """Return the documents of a run's bills, or of one account's bill."""
    run = stored_run(connection, number, account)
    return RunDocuments(
        number=number,
        state=run_of(connection, number)["state"],
        run=run,
        tree=tree_of(connection, number),
        count=count_bills(connection, number),
        bills=stored_bills(connection, number, account),
        signed=signed_of(connection, number),
        load=replayed(billing_sources.settled_as_of(database, run.settled), run.provisional or {}),
    )


MOST_KEPT = 64  # most bills whose documents are kept; an issued bill never changes, so they never age

Key = TypeVar("Key")


class KeptDocuments(Generic[Key]):
    """Reads documents of bills, and keeps those of some issued ones.

    Args:
        read: Returns the documents of an account's bill; the key is its month, or the number of its run.
        database: Tells whether a run was cancelled since: its bills are marked then.
    """

    def __init__(self, read: Callable[[Key, AccountNumber], RunDocuments], database: Database) -> None:
        self._read = read
        self._database, self._cancelled = database, 0
        # One at a time: unpacking the inputs of a town's run takes 50 MB for a moment.
        self._lock = Lock()
        self._kept: OrderedDict[tuple[AccountNumber, Key], RunDocuments] = OrderedDict()

    def of(self, account: AccountNumber, key: Key) -> RunDocuments:
        """Return the documents of an account's bill.

        Raises:
            ConfigError: There is no such bill.
        """
        with self._lock:
            if (cancelled := self._database.read(count_runs).get("cancelled", 0)) != self._cancelled:
                self._kept.clear()
                self._cancelled = cancelled
            found = self._kept.get((account, key)) or self._read(key, account)
            if found.state in ONCE_ISSUED:
                self._kept[account, key] = found
                self._kept.move_to_end((account, key))
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
            return found


def as_letters(
    database: Database, settings: UtilitySettings, documents: RunDocuments, statements: Iterable[Statement]
) -> Iterator[Statement]:
    """Yield the statements of a run's bills with their letters, if the town uses any.

    Raises:
        ConfigError: The office's key or its code for banks is wrong.
    """
    issued = database.read(run_of, documents.number)["issued"]
    for statement in statements:
        bill = statement.bill
        key = database.read(office_key, settings.office) if bill.addressee else b""
        to = database.read(contact_of, key, bill.addressee) if bill.addressee else None
        day = None if issued is None else local_day(issued, statement.zone)
        days = settings.billing.payment_days
        owed = database.read(owed_before, bill.account, documents.number) or 0
        letter = letter_of(settings.office, bill, documents.number, documents.table(bill), to, day, days, owed)
        yield replace(statement, letter=letter)


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
