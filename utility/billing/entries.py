"""What people enter for the next bill of an account: goodwill, a fee, a credit note (pure)."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from commonwatt.model.units import AccountNumber
from utility.billing.bill import Bill, LineKind
from utility.billing.money import to_cents


class EntryKind(StrEnum):
    """What a person enters it for."""

    GOODWILL = "goodwill"  # in favour of the account, without a fault of the bills
    FEE = "fee"  # the account owes it, such as for a visit
    CREDIT_NOTE = "credit_note"  # in favour of the account, for a mistake that no correction mends


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
        of_entry = "fees" if line.amount > 0 else "goodwill"
        found[{LineKind.TAX: "taxes", LineKind.ENTRY: of_entry}.get(line.kind, "energy")] += to_cents(line.amount)
    return dict(found)
