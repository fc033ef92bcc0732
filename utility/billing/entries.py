"""What people enter for the next bill of an account: goodwill, a fee, a credit note (pure)."""

from dataclasses import dataclass
from enum import StrEnum

from commonwatt.model.units import AccountNumber


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
