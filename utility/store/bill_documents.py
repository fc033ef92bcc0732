"""Reads what documents of a bill are made of: its run, its tree, its settled quarter-hours."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.units import AccountNumber
from utility.billing.bill import Bill
from utility.billing.documents.receipt import quarters_of_accounts, receipt_of
from utility.billing.documents.statement import Statement
from utility.billing.inputs import Load
from utility.billing.proof.canonical import Json
from utility.billing.proof.leaf import TOWN, Leaf, MeterQuarters
from utility.billing.proof.tree import salts
from utility.billing.provisional import replayed
from utility.billing.run import Progress
from utility.billing.stored_run import StoredRun, Tree, computed
from utility.registry.accounts import functions_of
from utility.store import billing_sources
from utility.store.billing import (
    accounts_of_run,
    bills_of_run,
    issued_run,
    latest_run,
    run_of,
    stored_run,
    tree_of,
)
from utility.store.database import Database
from utility.store.parts import chunks

CHUNK_ACCOUNTS = 500
"""Accounts whose quarter-hours are in memory at once, about 100 MB."""


@dataclass(frozen=True, kw_only=True)
class RunDocuments:
    """What the documents of a run's bills are made of.

    Attributes:
        number: The run's number.
        state: ``draft``, ``checked`` or ``issued``.
        run: Its inputs.
        tree: The tree over its bills.
        accounts: The accounts of the tree's leaves, in order.
        bills: Its bills, or some of them, by account.
        load: Returns the settled quarter-hours that it was made of.
    """

    number: int
    state: str
    run: StoredRun
    tree: Tree
    accounts: Sequence[AccountNumber]
    bills: dict[AccountNumber, Bill]
    load: Load

    def bill(self, account: AccountNumber) -> Bill:
        """Return the bill of an account.

        Raises:
            ConfigError: The run has none.
        """
        if account not in self.bills:
            raise ConfigError(f"run {self.number} of {self.run.month} has no bill of account {account}")
        return self.bills[account]

    def quarters(self, account: AccountNumber) -> list[MeterQuarters]:
        """Return the settled quarter-hours of an account's meters."""
        return quarters_of_accounts(self.run, [account], self.load)[account]

    def statements(self, accounts: Sequence[AccountNumber]) -> Iterator[Statement]:
        """Yield what the printed bills of some accounts show.

        Raises:
            ConfigError: The run has no bill of one of them.
        """
        kinds = functions_of(self.run.registry.meters)
        zone = ZoneInfo(self.run.timezone)
        for some in chunks(accounts, CHUNK_ACCOUNTS):
            quarters = quarters_of_accounts(self.run, set(some), self.load)
            for account in some:
                kind = kinds[account] if account in kinds else self.run.registry.accounts[account].function
                yield Statement(
                    bill=self.bill(account),
                    customer=kind.value,
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
        return receipt_of(self.run, self.tree, self.accounts, self.bill(account), self.quarters(account))


def leaves_of(documents: RunDocuments, progress: Progress | None = None) -> list[Leaf]:
    """Return every leaf of a run, by computing it again.

    Raises:
        StoreError: The bills are not those of the tree any more.
    """
    again = computed(documents.run, documents.load, progress)
    if again.tree(documents.tree.secret) != documents.tree:
        raise StoreError(
            f"run {documents.number}: computed again from its inputs, its tree is another one: the settled data that "
            "it was made of has changed, or it was made by another version"
        )
    salted = salts(documents.tree.secret, again.leaves)
    return [Leaf(account=number, content=of, salt=salted[number]) for number, of in sorted(again.leaves.items())]


def documents_of(database: Database, month: str) -> RunDocuments:
    """Return what the documents of a month's bills are made of: of the issued run, else of the newest one.

    Raises:
        ConfigError: The month has no run, or one without proofs.
    """
    with database.reads.begin() as connection:
        number = latest_run(connection, month)
        if number is None:
            raise ConfigError(f"{month}: there is no run of bills; make it: commonwatt bills run {month} --as PERSON")
        return _documents(database, connection, number, None)


def documents_of_run(database: Database, number: int, account: AccountNumber) -> RunDocuments:
    """Return what the documents of one account's bill in a run are made of, whatever the run's state.

    Raises:
        ConfigError: There is no such run, or it has no bill of the account, or no proofs.
    """
    with database.reads.begin() as connection:
        run_of(connection, number)
        if not bills_of_run(connection, number, account):
            raise ConfigError(f"run {number} has no bill of account {account}")
        return _documents(database, connection, number, account)


def issued_documents(database: Database, month: str, account: AccountNumber) -> RunDocuments:
    """Return what the documents of one account's issued bill are made of; the run's inputs have nothing of others.

    Raises:
        ConfigError: The account has no issued bill of the month.
    """
    with database.reads.begin() as connection:
        number = issued_run(connection, month)
        if number is None or not bills_of_run(connection, number, account):
            raise ConfigError(f"{month}: no bill of account {account} is issued")
        return _documents(database, connection, number, account)


def _documents(database: Database, connection: Connection, number: int, account: AccountNumber | None) -> RunDocuments:
    """Return the documents of a run's bills, or of one account's bill."""
    run = stored_run(connection, number, account)
    bills = bills_of_run(connection, number, account)
    its = accounts_of_run(connection, number)
    return RunDocuments(
        number=number,
        state=run_of(connection, number)["state"],
        run=run,
        tree=tree_of(connection, number),
        accounts=(TOWN, *its),
        bills={each.account: each for each in bills},
        load=replayed(billing_sources.settled_as_of(database, run.settled), run.provisional or {}),
    )
