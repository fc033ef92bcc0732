"""The people of accounts: a contact, encrypted at rest; and the office's table (CSV) of them (pure).

A fault of the table names its row and column and never repeats a cell: what was written there may be a name.
"""

import csv
import hashlib
import io
import json
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo

from commonwatt.care.code import decrypt, encrypt
from commonwatt.model.text import text_of
from commonwatt.model.units import AccountNumber, Quarter
from utility.registry.changes import parse_quarter
from utility.registry.table import Fault


@dataclass(frozen=True, kw_only=True)
class Contact:
    """A person or a household that has an account, from a day on."""

    name: str = field(repr=False)  # as letters have it
    street: str = field(default="", repr=False)  # with the number
    postcode: str = field(default="", repr=False)
    city: str = field(default="", repr=False)
    country: str = field(default="", repr=False)  # two letters, ISO 3166
    mail: str = field(default="", repr=False)  # mail address; empty: none
    language: Literal["", "en", "de", "es"] = ""  # empty: that of the tariff
    paper: bool = False  # the household wants its bills on paper, although a mail address is known
    iban: str = field(default="", repr=False)  # the bank account for direct debits and refunds; empty: none
    mandate: str = field(default="", repr=False)  # the reference of the mandate for direct debits; empty: none
    mandate_day: str = ""  # the day it was signed, such as 2026-11-03
    salt: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)  # makes the digest unguessable

    def digest(self) -> str:
        """Return what a bill's proof has of it: SHA-256 of salt, name and address, hexadecimal."""
        said = [self.salt, self.name, self.street, self.postcode, self.city, self.country]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def sealed(self, key: bytes) -> bytes:
        """Return it encrypted by the office's key."""
        return encrypt(key, json.dumps(asdict(self)).encode())


def opened(key: bytes, content: bytes) -> Contact:
    """Return what ``Contact.sealed`` made.

    Raises:
        ConfigError: It was changed, or has another key.
    """
    return Contact(**json.loads(decrypt(key, content)))


CELLS = tuple(field.name for field in fields(Contact) if field.name != "salt")  # columns, and fields of a form
COLUMNS = ("account", "from", *CELLS)

_RULES = dict.fromkeys(CELLS, (".{0,70}", "has more than 70 characters, or some that can't be printed")) | {
    "name": (".{1,70}", "is needed, with at most 70 characters"),
    "country": ("|[A-Z]{2}", "is no country: two capital letters, such as DE"),
    "mail": (r"|(?!.*=\?)[^@\s<>,;:\"']{1,64}@[A-Za-z0-9.-]{1,180}\.[A-Za-z]{2,}", "is no mail address"),
    "language": ("|en|de|es", "is none of en, de, es"),
    "paper": ("|yes|no", "is neither yes nor no"),
    "iban": ("|[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}", "is no IBAN"),
    "mandate": (r"|[A-Za-z0-9+?/:().,' -]{1,35}", "has characters that banks do not take, or more than 35"),
    "mandate_day": (r"|\d{4}-\d\d-\d\d", "is no day, such as 2026-11-03"),
}

History: TypeAlias = list[tuple[Quarter, Contact]]  # who an account is from which quarter on, the oldest first


@dataclass(frozen=True, kw_only=True)
class PersonChange:
    """Who an account is from a quarter on."""

    account: AccountNumber  # the account
    since: Quarter  # the first quarter; 0: from the beginning
    who: Contact  # who it is
    lines: list[str]  # the cells that differ from those before


def changed(account: AccountNumber, since: Quarter, who: Contact, history: History) -> PersonChange:
    """Return a change; it begins a quarter-hour later than a contact that bills may have been issued with."""
    while since in dict(history):
        since += 1
    before = next((each for start, each in reversed(history) if start <= since), None)
    if before is not None and replace(who, salt=before.salt).digest() == before.digest():
        who = replace(who, salt=before.salt)  # issued bills with the same name and address mean it, too
    was, now = cells_of(before), cells_of(who)
    lines = [f"{name}: {was[name] or '-'} → {now[name] or '-'}" for name in CELLS if was[name] != now[name]]
    return PersonChange(account=account, since=since, who=who, lines=lines)


def cells_of(who: Contact | None) -> dict[str, str]:
    """Return a contact as cells, by column; empty ones for none."""
    return {name: "yes" if (value := getattr(who, name, "")) is True else value or "" for name in CELLS}


def read_people(
    content: str, zone: ZoneInfo, accounts: Collection[AccountNumber], known: Mapping[AccountNumber, History]
) -> tuple[list[PersonChange], list[Fault]]:
    """Return what a table changes, and every fault in it; a row that says what is known changes nothing.

    Args:
        content: The table (CSV); a row has an account, from when on (local time of `zone`), and the whole contact.
        known: Who the accounts are so far.
    """
    delimiter = max(",;\t", key=content.partition("\n")[0].count)
    rows = csv.DictReader(io.StringIO(content.lstrip("\ufeff")), restkey="", restval="", delimiter=delimiter)
    try:
        named_rows = list(enumerate(rows, 2))
    except csv.Error:
        return [], [Fault(row=rows.line_num, text="can't be read as CSV")]
    if not {"account", "name"} <= set(rows.fieldnames or ()) <= set(COLUMNS):
        return [], [Fault(row=1, text=f"must name the columns, `account` and `name` among them: {', '.join(COLUMNS)}")]
    faults, found = list[Fault](), dict[tuple[AccountNumber, Quarter], PersonChange]()
    for row, named in named_rows:
        cells = {name: text_of("".join(cell).strip()) for name, cell in named.items()}
        who, wrong = contact_of(cells, zone)
        text, since = cells["account"], quarter_of_cell(cells.get("from", ""), zone)
        account = int(text) if re.fullmatch("[0-9]{1,5}", text) else 0
        if account not in accounts:
            wrong["account"] = "is no registered account"
        if since is None:
            wrong["from"] = "is no local day or quarter-hour that exists once, such as 2026-11-03 or 2026-11-03 14:15"
        elif (account, since) in found:
            wrong["from"] = "another row has the same account from the same time on"
        if cells.get(""):
            wrong[""] = "has more cells than there are columns"
        faults += [Fault(row=row, column=column, text=words) for column, words in wrong.items()]
        found[account, since or 0] = changed(account, since or 0, who, known.get(account, []))
    return [each for each in found.values() if each.lines], faults


def contact_of(cells: Mapping[str, str], zone: ZoneInfo) -> tuple[Contact, dict[str, str]]:
    """Return the contact of a row or a form, and what is wrong with it, by column."""
    said = {name: cells.get(name, "").strip() for name in CELLS}
    said["iban"] = iban = "".join(said["iban"].split()).upper()
    is_good = {n: re.fullmatch(form, said[n]) and said[n].isprintable() for n, (form, _) in _RULES.items()}
    wrong = {name: words for name, (_, words) in _RULES.items() if not is_good[name]}
    # ISO 13616: the remainder of the number is 1.
    if iban and "iban" not in wrong and int("".join(str(int(c, 36)) for c in iban[4:] + iban[:4])) % 97 != 1:
        wrong["iban"] = "is no IBAN: its check digits are wrong"
    if bool(said["mandate"]) != bool(said["mandate_day"]) or (said["mandate"] and not iban):
        wrong["mandate"] = "a mandate needs its day and an IBAN"
    if quarter_of_cell(said["mandate_day"], zone) is None:
        wrong["mandate_day"] = _RULES["mandate_day"][1]
    return Contact(**{**said, "paper": said["paper"] == "yes"}), wrong  # type: ignore[arg-type]


def quarter_of_cell(cell: str, zone: ZoneInfo) -> Quarter | None:
    """Return the quarter of a cell, 0 of an empty one; ``None``: it is none."""
    try:
        return parse_quarter(cell, zone) if cell else 0
    except ValueError:
        return None
