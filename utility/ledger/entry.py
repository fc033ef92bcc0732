"""What the ledger has entries of, and what follows from those of one account: open items, reminders (pure)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from enum import StrEnum

from commonwatt.model.units import AccountNumber, EpochSeconds


class LedgerKind(StrEnum):
    """What an entry is for."""

    BILL = "bill"
    REVERSAL = "reversal"  # takes back the entry `about`
    PAYMENT = "payment"  # money that the bank booked, not yet of an account; negative: paid out or returned
    ASSIGNMENT = "assignment"  # gives the payment `about` to an account
    REMINDER = "reminder"  # of the bill `about`, with its fee
    INSTALMENT = "instalment"  # of a plan, which nothing makes any more; has no lines, and only stands in the history
    ORDER = "order"  # a direct debit, or a refund (negative), of the bill `about`; has no lines
    RELEASE = "release"  # lets a file of orders leave, as a second person saw it; has no lines
    PROPOSAL = "proposal"  # to close a month; has no lines
    CLOSED = "closed"  # a closed month, with its export; has no lines


WITHOUT_LINES = (LedgerKind.INSTALMENT, LedgerKind.ORDER)  # amounts that change no balance


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry of the ledger."""

    no: int = 0  # its number; 0: not yet stored
    day: str  # the local day to which it belongs, such as 2026-11-28
    kind: LedgerKind  # what it is for
    of: str  # what exactly; two entries of a kind never have the same
    account: AccountNumber = 0  # the account; 0: none yet
    cents: int  # by how much the account owes more; of a payment the money; without lines its amount
    due: str = ""  # the last day to pay it; empty: it has none
    about: int = 0  # the number of the entry that it refers to; 0: none
    text: str = ""  # of a bill that it is final, of a payment the bank's day, of an order or a release its file
    person: str = ""  # who made it
    time: EpochSeconds = 0  # when
    lines: Mapping[str, int] = field(default_factory=dict)  # what it adds by key of ``LedgerCodes``, cents; sums to 0
    sealed: bytes | None = field(default=None, repr=False)  # encrypted: payer and words; of a closed month its export


def billed(run: int, account: AccountNumber, day: str, due: str, parts: Mapping[str, int], *, is_final: bool) -> Entry:
    """Return the entry of a run's bill, of its cents by key of ``LedgerCodes`` without what is receivable."""
    cents, of = sum(parts.values()), f"run {run} account {account}"
    lines = {"receivables": cents} | {code: -part for code, part in parts.items() if part}
    new = Entry(day=day, kind=LedgerKind.BILL, of=of, account=account, cents=cents, due=due, lines=lines)
    return replace(new, text="final" if is_final else "")


def reversal(entry: Entry, day: str) -> Entry:
    """Return the entry that takes one back."""
    lines = {code: -cents for code, cents in entry.lines.items()}
    new = Entry(
        day=day, kind=LedgerKind.REVERSAL, of=f"entry {entry.no}", account=entry.account, about=entry.no, cents=0
    )
    return replace(new, cents=lines.get("receivables", 0), lines=lines)


def live(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries that no other one reversed."""
    gone = {each.about for each in entries if each.kind is LedgerKind.REVERSAL}
    return [each for each in entries if each.kind is not LedgerKind.REVERSAL and each.no not in gone]


def open_items(entries: Sequence[Entry]) -> list[tuple[Entry, int]]:
    """Return what of an account is not paid: entry and cents, the oldest first; a payment settles the oldest first."""
    posted = [each for each in live(entries) if each.kind not in WITHOUT_LINES]
    moved, items = list[Entry](), list[Entry]()
    for each in posted:
        (moved if each.cents < 0 or each.kind is LedgerKind.ASSIGNMENT else items).append(each)
    paid = -sum(each.cents for each in moved)
    # More was returned or refunded than was there.
    found, paid = ([], paid) if paid >= 0 else ([(moved[-1], -paid)], 0)
    for each in sorted(items, key=lambda e: (e.due or e.day, e.no)):
        if each.cents > paid:
            found.append((each, each.cents - paid))
        paid = max(0, paid - each.cents)
    return found


def reminders(entries: Sequence[Entry], today: str, levels: Sequence[tuple[int, int]]) -> list[Entry]:
    """Return the reminders of an account that are due.

    Args:
        levels: Of each level the days after the due day, or after the reminder before, and the fee in cents.
    """
    found, sent = [], [each for each in entries if each.kind is LedgerKind.REMINDER]
    for bill, _ in open_items(entries):
        earlier = [each for each in sent if each.about == bill.no]
        if bill.kind is LedgerKind.BILL and len(earlier) < len(levels):
            days, fee = levels[len(earlier)]
            last = date.fromisoformat(max((each.day for each in earlier), default=bill.due))
            if str(last + timedelta(days)) <= today:
                of = f"bill {bill.no} level {len(earlier) + 1}"
                lines = {"receivables": fee, "fees": -fee} if fee else {}
                new = Entry(day=today, kind=LedgerKind.REMINDER, of=of, account=bill.account, cents=fee, lines=lines)
                found.append(replace(new, due=today, about=bill.no))
    return found
