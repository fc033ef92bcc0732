"""The made-up people of the demonstration's homes: what each account is called, where it lives, what it pays."""

from collections.abc import Sequence
from itertools import product

from commonwatt.model.units import AccountNumber
from utility.customers.contact import Contact

LATE_PAYER, LATE_FROM = 9, "2026-02"  # the account that pays no bill from a month on
MOVER, COMES_TO_NAME = 12, "Noor Haddad"  # the account that moves out after the past's end, and who comes

_FIRST = ("Ada", "Ben", "Carmen", "Dmitri", "Elif", "Femi", "Greta", "Hiro", "Ines", "Jonas", "Kemal")
_LAST = ("Abbott", "Brandt", "Castillo", "Dogan", "Eriksen", "Fontaine", "Garcia")
_STREETS = ("Orchard Lane", "Mill Road", "Station Street", "Hill View")
_NAMES = [f"{first} {last}" for last, first in product(_LAST, _FIRST)]


def contact_of(account: AccountNumber, *, name: str = "", street: str = "") -> Contact:
    """Return who an account is; none is a person that there is: the addresses are of a town that there is not."""
    return Contact(
        name=name or _NAMES[account % len(_NAMES)],
        street=street or f"{account % 40 + 1} {_STREETS[account % len(_STREETS)]}",
        postcode="00000",
        city="Commonwatt",
        country="US",
    )


def pays(account: AccountNumber, month: str) -> bool:
    """Return whether an account pays the bill of a month within its time."""
    return account != LATE_PAYER or month < LATE_FROM


def statement(rows: Sequence[tuple[str, int, str, str]]) -> bytes:
    """Return a bank's table (CSV) of payments: the day, cents, the payer's words, the payer."""
    lines = ["day,amount,currency,reference,text,payer,bank_reference"]
    lines += [f"{day},{cents / 100:.2f},USD,,{text},{payer}," for day, cents, text, payer in rows]
    return "\n".join(lines).encode()
