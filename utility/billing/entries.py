"""What two people enter for bills: goodwill, a fee or a credit note on an account's next bill; a run's end (pure)."""

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import AccountNumber
from utility.billing.bill import LINE_ROWS, Bill
from utility.billing.money import to_cents

MOST = Decimal(10_000)  # most dollars of an entry


class EntryKind(StrEnum):
    """What people enter it for."""

    GOODWILL = "goodwill"  # in favour of the account, without a fault of the bills
    FEE = "fee"  # the account owes it, such as for a visit
    CREDIT_NOTE = "credit_note"  # in favour of the account, for a mistake that no correction mends
    CANCEL = "cancel"  # an issued run of bills is cancelled; it is on no bill


ENTRY_WORDS = {EntryKind.GOODWILL: "Goodwill", EntryKind.FEE: "Fee", EntryKind.CREDIT_NOTE: "Credit note"}
"""Each kind's words on a bill."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What two people entered for an account."""

    no: int  # its number
    account: AccountNumber  # the account
    kind: EntryKind  # what it is for
    cents: int  # what no issued bill has of it yet; negative: in favour of the account
    reason: str  # why, as the bill shows it


def by_code(bill: Bill) -> dict[str, int]:
    """Return what a bill adds to the ledger, cents by key of ``LedgerCodes``."""
    found = Counter[str]()
    for line in bill.lines:
        found[LINE_ROWS[line.kind].ledger[line.amount <= 0]] += to_cents(line.amount) - line.tax_cents
        found["taxes"] += line.tax_cents
    return found


def cents_of(kind: EntryKind, amount: Decimal) -> int:
    """Return the cents of an entry: negative if they are in favour of the account.

    Args:
        amount: Dollars, positive; without meaning for a run that is cancelled.
    """
    if kind is EntryKind.CANCEL:
        return 0
    if not 0 < amount <= MOST or amount != round(amount, 2):
        raise ConfigError(f"amount must be from 0.01 to {MOST:,}.00, in whole cents")
    return int(100 * amount) * (1 if kind is EntryKind.FEE else -1)
