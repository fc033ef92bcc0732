"""The documents of single bills, one at a time: a run's inputs are of the whole town, and are large."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

from commonwatt.model.units import AccountNumber
from utility.billing.store.bill_documents import RunDocuments
from utility.billing.store.billing import ONCE_ISSUED, count_runs
from utility.database.database import Database

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
