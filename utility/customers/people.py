"""The people of accounts as a table (CSV) of the office: checked cell by cell, and what it changes (pure).

A fault names its row and column and never repeats a cell: what was written there may be a name.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from zoneinfo import ZoneInfo

from commonwatt.model.units import AccountNumber, Quarter
from utility.customers.contact import Contact
from utility.registry.dates import parse_quarter
from utility.registry.table import Fault, named_rows

CELLS = tuple(field.name for field in fields(Contact) if field.name != "salt")
"""The columns of a contact, which are also the fields of its form."""

COLUMNS = ("account", "from", *CELLS)

_PATTERNS = {
    "country": ("[A-Z]{2}", "is no country: two capital letters, such as DE"),
    "mail": (r"[^@\s<>,;:\"']{1,64}@[A-Za-z0-9.-]{1,180}\.[A-Za-z]{2,}", "is no mail address"),
    "language": ("en|de|es", "is none of en, de, es"),
    "paper": ("yes|no", "is neither yes nor no"),
    "mandate": (r"[A-Za-z0-9+?/:().,' -]{1,35}", "has characters that banks do not take, or more than 35"),
}
_LONGEST = 70  # most characters of a cell, as banks take them


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a row changes: the account's contact from a quarter on."""

    account: AccountNumber  # the account
    since: Quarter  # the first quarter; 0: from the beginning
    before: Contact | None  # whom the account means then so far; ``None``: it is not known
    after: Contact  # whom it means afterwards

    @property
    def lines(self) -> list[str]:
        """The cells that go, with a minus, and those that come, with a plus."""
        was, now = ({} if each is None else cells_of(each) for each in (self.before, self.after))
        differ = [name for name in CELLS if was.get(name, "") != now[name]]
        both = (("-", was.get(name, ""), "+", now[name], name) for name in differ)
        return [f"{sign} {name}: {cell}" for *pairs, name in both for sign, cell in _pairs(pairs) if cell]


def _pairs(flat: Sequence[str]) -> list[tuple[str, str]]:
    return [(flat[0], flat[1]), (flat[2], flat[3])]


def cells_of(who: Contact) -> dict[str, str]:
    """Return a contact as cells, by column."""
    return {name: "yes" if (value := getattr(who, name)) is True else value or "" for name in CELLS}


def read_people(
    content: bytes,
    zone: ZoneInfo,
    accounts: Collection[AccountNumber],
    known: Mapping[AccountNumber, Sequence[tuple[Quarter, Contact]]],
) -> tuple[list[Change], list[Fault]]:
    """Return what a table changes, and every fault in it; a row that says what is known already changes nothing.

    Args:
        content: The table; a row has an account, from when on, and the whole contact.
        zone: Local time of the dates.
        accounts: The registered accounts.
        known: Who accounts are from which quarter on, the oldest first.
    """
    faults: list[Fault] = []
    found: dict[tuple[AccountNumber, Quarter], Contact] = {}
    for number, cells in named_rows(content, COLUMNS, "account", faults):
        wrong: dict[str, str] = {}
        account, since = _account(cells.pop("account", ""), accounts, wrong), _since(cells.pop("from", ""), zone, wrong)
        who = contact_of_cells(cells, wrong)
        if not wrong and found.setdefault((account, since), who) is not who:
            wrong["from"] = "another row has the same account from the same time on"
        faults += [Fault(row=number, column=column, text=text) for column, text in wrong.items()]
    changes = [_change(account, since, who, known.get(account, ())) for (account, since), who in found.items()]
    return [each for each in changes if each.before is None or each.lines or _begins(each, known)], faults


def _begins(change: Change, known: Mapping[AccountNumber, Sequence[tuple[Quarter, Contact]]]) -> bool:
    """Return whether a change that says nothing new would hold over a later contact; then it is kept."""
    return any(since > change.since for since, _ in known.get(change.account, ()))


def _change(
    account: AccountNumber, since: Quarter, who: Contact, history: Sequence[tuple[Quarter, Contact]]
) -> Change:
    before = next((each for start, each in reversed(history) if start <= since), None)
    # The same name and address keep their digest.
    if before is not None and replace(who, salt=before.salt).digest() == before.digest():
        who = replace(who, salt=before.salt)
    return Change(account=account, since=since, before=before, after=who)


def contact_of_cells(cells: Mapping[str, str], wrong: dict[str, str]) -> Contact:
    """Return the contact of a row or a form; ``wrong`` gets what is wrong, by column."""
    said = {name: cells.get(name, "").strip() for name in CELLS}
    said["iban"] = "".join(said["iban"].split()).upper()
    if not said["name"]:
        wrong["name"] = "is needed"
    for name, cell in said.items():
        pattern, words = _PATTERNS.get(name, (".*", ""))
        if cell and not re.fullmatch(pattern, cell):
            wrong[name] = words
        elif not cell.isprintable() or len(cell) > (254 if name == "mail" else _LONGEST):
            wrong[name] = "is too long, or has characters that can't be printed"
    if said["iban"] and not is_iban(said["iban"]):
        wrong["iban"] = "is no IBAN: its check digits are wrong"
    if bool(said["mandate"]) != bool(said["mandate_day"]) or (said["mandate"] and not said["iban"]):
        wrong["mandate"] = "a mandate needs its day and an IBAN"
    if said["mandate_day"] and not _parses(date.fromisoformat, said["mandate_day"]):
        wrong["mandate_day"] = "is no day, such as 2026-11-03"
    return Contact(**{**said, "paper": said["paper"] == "yes"})  # type: ignore[arg-type]


def is_iban(text: str) -> bool:
    """Return whether a text has the form and the check digits of an IBAN (ISO 13616)."""
    if not re.fullmatch("[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}", text):
        return False
    return int("".join(str(int(letter, 36)) for letter in text[4:] + text[:4])) % 97 == 1


def _account(cell: str, accounts: Collection[AccountNumber], wrong: dict[str, str]) -> AccountNumber:
    number = int(cell) if cell.isascii() and cell.isdecimal() and len(cell) < 6 else 0
    if number not in accounts:
        wrong["account"] = "is no registered account"
    return number


def _since(cell: str, zone: ZoneInfo, wrong: dict[str, str]) -> Quarter:
    if cell and not _parses(lambda text: parse_quarter(text, zone), cell):
        wrong["from"] = "is no local day or quarter-hour that exists once, such as 2026-11-03 or 2026-11-03T14:15"
        return 0
    return parse_quarter(cell, zone) if cell else 0


def _parses(read: Callable[[str], object], cell: str) -> bool:
    try:
        read(cell)
    except ValueError:
        return False
    return True
