"""What a bank's file says: bookings of a statement, camt.053.001.02 to .08, or of a table (CSV)."""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser, fromstring

from commonwatt.model.exceptions import ConfigError

MAX_BYTES = 20_000_000  # bytes of a bank's file; a longer one is refused
_EITHER = (("BookgDt/Dt", "BookgDt/DtTm"), ("Sts/Cd", "Sts"))  # where day and status stand, by version
_MOST = 10**10  # an amount of so much, or of no number, is a mistake
_NONE = ("", "NONREF", "NOTPROVIDED")  # references that are none


@dataclass(frozen=True, kw_only=True)
class Booking:
    """A booking of the town's bank account, or a part of one."""

    day: str  # its local day
    amount: Decimal  # received; negative: paid out, or returned
    currency: str  # ISO 4217
    reference: str  # the end-to-end reference, or that of a batch; empty: none
    text: str = field(repr=False)  # the payer's words and references
    payer: str = field(repr=False)  # the names of both sides
    bank_reference: str  # the bank's own; empty: none
    nth: int = 1  # which one of a statement it is among those with the same identity
    is_booked: bool = True  # the bank will not change it

    def identity(self) -> tuple[object, ...]:
        """Return what is the same of this booking in every file: the bank's reference, or all its words."""
        words = (self.bank_reference,) if self.bank_reference else (self.reference, self.text, self.payer)
        return self.day, f"{self.amount:.2f}", self.currency, self.nth, *words


def bookings(content: bytes, iban: str) -> list[Booking]:
    """Return the bookings of a file, which has to be of the town's bank account (empty: of any).

    Raises:
        ConfigError: It is too long, no such file, unsafe, or of another account; says where it is wrong.
    """
    if len(content) > MAX_BYTES:
        raise ConfigError(f"the file has more than {MAX_BYTES:,} bytes")
    is_xml, found = content.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"), list[Booking]()
    try:
        for rows in _statements(content, iban.replace(" ", "")) if is_xml else [_table(content)]:
            seen = Counter[tuple[object, ...]]()
            for booking in rows:
                if not abs(booking.amount) < _MOST:
                    raise ValueError
                # One that the bank may still change does not count: a later file may lack it.
                same = (booking.is_booked, *booking.identity())
                seen[same] += 1
                found.append(replace(booking, nth=seen[same]))
    except (ParseError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"the file is neither camt.053 nor CSV: {error}") from error
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"booking {len(found) + 1}: its day, amount or currency can't be read") from error
    return found


def _table(content: bytes) -> Iterator[Booking]:
    for row in csv.DictReader(io.StringIO(content.decode("utf-8-sig")), strict=True):
        said: dict[str, Any] = {name: value.strip() for name, value in row.items()}
        yield Booking(**said | {"day": str(date.fromisoformat(said["day"])), "amount": Decimal(said["amount"])})


class _Plain(TreeBuilder):
    def doctype(self, *_: object) -> None:
        """Refuse a document type, and so entities."""
        raise ConfigError("the file has a document type; a bank's statement has none")


def _statements(content: bytes, iban: str) -> Iterator[Iterator[Booking]]:
    root = fromstring(content, XMLParser(target=_Plain()))  # noqa: S314 - without document type it is safe
    for element in root.iter():  # Each version has a namespace of its own.
        element.tag = element.tag.rpartition("}")[2]
    if not (statements := root.findall("BkToCstmrStmt/Stmt")):
        raise ConfigError("the file is no statement of a bank (camt.053)")
    for statement in statements:
        if iban and (of := statement.findtext("Acct/Id/IBAN", "")) != iban:
            raise ConfigError(f"the statement is of an account that ends with {of[-4:]}, not of the town's")
        yield (each for entry in statement.iterfind("Ntry") for each in _parts(entry))


def _parts(entry: Element) -> Iterator[Booking]:
    """Return a booking by its parts, if their amounts are its amount; else whole."""
    whole, parts = _amount(entry, "Amt"), entry.findall("NtryDtls/TxDtls")
    amounts = [_amount(each, "Amt") or _amount(each, "AmtDtls/TxAmt/Amt") for each in parts]
    if len(parts) < 2 or sum(amounts) != whole:
        parts, amounts = parts if len(parts) == 1 else [Element("TxDtls")], [whole]
    return (_booking(entry, part, amount) for part, amount in zip(parts, amounts, strict=True))


def _amount(element: Element, path: str) -> Decimal:
    return Decimal(element.findtext(path, "0").strip())


def _booking(entry: Element, part: Element, amount: Decimal) -> Booking:
    def said(*paths: str) -> str:
        found = [(each.text or "").strip() for path in paths for each in part.iterfind(path)]
        return " ".join(each for each in found if each not in _NONE)

    day, status = (entry.findtext(a) or entry.findtext(b) or "" for a, b in _EITHER)
    bank, own = entry.findtext("AcctSvcrRef", ""), said("Refs/AcctSvcrRef", "Refs/TxId", "Refs/EndToEndId")
    return Booking(
        day=str(date.fromisoformat(day.strip()[:10])),
        amount=amount * {"CRDT": 1, "DBIT": -1}[entry.findtext("CdtDbtInd", "").strip()],
        currency=entry.findall("Amt")[0].attrib["Ccy"],
        reference=said("Refs/EndToEndId") or entry.findtext("NtryDtls/Btch/MsgId", ""),
        text=said("RmtInf/Strd/CdtrRefInf/Ref", "RmtInf/Ustrd", "Refs/EndToEndId"),
        payer=said(*(f"RltdPties/{side}/{name}" for side in ("Dbtr", "Cdtr") for name in ("Nm", "Pty/Nm"))),
        bank_reference="" if bank in _NONE else f"{bank} {own}".strip(),
        is_booked=status.strip() == "BOOK",
    )
