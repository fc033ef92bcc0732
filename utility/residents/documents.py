"""The documents of issued bills, one account's at a time: a run's inputs are of the whole town, and are large."""

from collections import OrderedDict
from threading import Lock

from commonwatt.model.units import AccountNumber
from utility.store.bill_documents import RunDocuments, issued_documents
from utility.store.database import Database

MOST_KEPT = 64
"""Most bills whose documents are kept; an issued bill never changes, so they never age."""


class IssuedDocuments:
    """Reads documents of issued bills, and keeps some.

    Args:
        database: The database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        # One at a time: unpacking the inputs of a town's run takes 50 MB for a moment.
        self._lock = Lock()
        self._kept: OrderedDict[tuple[AccountNumber, str], RunDocuments] = OrderedDict()

    def of(self, account: AccountNumber, month: str) -> RunDocuments:
        """Return the documents of an account's issued bill of a month.

        Raises:
            ConfigError: There is no such bill.
        """
        with self._lock:
            key = account, month
            if key not in self._kept:
                self._kept[key] = issued_documents(self._database, month, account)
            self._kept.move_to_end(key)
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
            return self._kept[key]
