"""What a bank's file says: bookings of a statement or a table; the reference by which a payment is found."""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser, fromstring

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import AccountNumber

MAX_BYTES = 20_000_000  # bytes of a bank's file; a longer one is refused
MAX_BOOKINGS = 20_000  # bookings of a file, with their parts: more than two for each account
_MOST_ELEMENTS, _DEEPEST = 1_000_000, 40  # of an XML file
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
    bank_reference: str  # the bank's own of the whole booking; empty: none
    nth: int = 1  # which one of a file it is among those with the same identity
    repeats: bool = False  # another booking of the file has the same bank's reference and amount
    is_booked: bool = True  # the bank will not change it

    def named(self) -> tuple[object, ...]:
        """Return what names this booking in every file, whatever its day: the bank's reference, or all its words."""
        words = (self.bank_reference,) if self.bank_reference else (self.reference, self.text, self.payer)
        return self.currency, *words

    def identity(self) -> tuple[object, ...]:
        """Return what is the same of this booking in every file."""
        return self.day, f"{self.amount:.2f}", self.nth, *self.named()


def bookings(content: bytes, iban: str) -> list[Booking]:
    """Return the bookings of a file, which has to be of the town's bank account (empty: of any)."""
    if len(content) > MAX_BYTES:
        raise ConfigError(f"the file has more than {MAX_BYTES:,} bytes")
    is_xml, found = content.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"), list[Booking]()
    try:
        seen = Counter[tuple[object, ...]]()
        for rows in _statements(content, iban.replace(" ", "")) if is_xml else [_table(content)]:
            before = set(seen)  # of other statements of the file, which may overlap
            for booking in rows:
                if not abs(booking.amount) < _MOST:
                    raise ValueError
                if len(found) >= MAX_BOOKINGS:
                    raise ConfigError(f"the file has more than {MAX_BOOKINGS:,} bookings; import it in parts")
                # One that the bank may still change does not count: a later file may lack it.
                same = (booking.is_booked, *booking.identity())
                seen[same] += 1
                found.append(replace(booking, nth=seen[same], repeats=booking.repeats or same in before))
    except (ParseError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"the file is neither camt.053 nor CSV: {error}") from error
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"booking {len(found) + 1}: its day, amount or currency can't be read") from error
    return found


def _table(content: bytes) -> Iterator[Booking]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252")
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    rows = csv.DictReader(io.StringIO(text), strict=True, delimiter=delimiter)
    if missing := [name for name in _COLUMNS if name not in (rows.fieldnames or ())]:
        raise ConfigError(f"row 1 lacks the columns {', '.join(missing)}; the table has {', '.join(_COLUMNS)}")
    seen = set[object]()
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise ConfigError(f"row {number}: it has more cells or fewer than the columns of row 1")
        said: dict[str, Any] = {name: row[name].strip() for name in _COLUMNS}
        for name, of, such in _KINDS:
            try:
                said[name] = of(said[name])
            except (ValueError, ArithmeticError) as error:
                raise ConfigError(f"row {number}, column {name}: {said[name]!r}; write {such}") from error
        said["bank_reference"] = "" if said["bank_reference"] in _NONE else said["bank_reference"]
        whole = said["bank_reference"], said["amount"]
        yield Booking(**said, repeats=bool(whole[0]) and whole in seen)
        seen.add(whole)


def _number(text: str) -> Decimal:
    """Return an amount with a decimal point or comma."""
    # In 12,500 or 1.000 the decimal point is not certain.
    if not (read := re.fullmatch(r"([+-]?[0-9]+(?:[.,][0-9]{3})*)[.,]([0-9]{1,2})|[+-]?[0-9]+", text)):
        raise ValueError
    whole, rest = (read[1], read[2]) if read[1] else (text, "0")
    if not abs(found := Decimal(f"{whole.replace('.', '').replace(',', '')}.{rest}")) < _MOST:
        raise ValueError
    return found


_COLUMNS = ("day", "amount", "currency", "reference", "text", "payer", "bank_reference")
_KINDS: tuple[tuple[str, Callable[[str], object], str], ...] = (
    ("day", lambda text: str(date.fromisoformat(text)), "a day such as 2026-12-05"),
    ("amount", _number, "an amount such as 12.50 or 12,50, of less than ten thousand million"),
)


class _Plain(TreeBuilder):
    def __init__(self) -> None:
        super().__init__()
        self._elements = self._depth = 0

    def start(self, tag: Any, attributes: Any, /) -> Element:
        """Refuse what no statement has: elements without end, or within each other."""
        self._elements, self._depth = self._elements + 1, self._depth + 1
        if self._elements > _MOST_ELEMENTS or self._depth > _DEEPEST:
            raise ConfigError(f"the file has more than {_MOST_ELEMENTS:,} elements, or {_DEEPEST} within each other")
        return super().start(tag, attributes)

    def end(self, tag: Any, /) -> Element:
        """Count back."""
        self._depth -= 1
        return super().end(tag)

    def doctype(self, *_: object) -> None:
        """Refuse a document type, and so entities."""
        raise ConfigError("the file has a document type; a bank's statement has none")


def _statements(content: bytes, iban: str) -> Iterator[Iterator[Booking]]:
    root = fromstring(content, XMLParser(target=_Plain()))  # noqa: S314 - without document type it is safe
    for element in root.iter():  # Each version has a namespace of its own.
        element.tag = element.tag.rpartition("}")[2]
    if not (statements := root.findall("BkToCstmrStmt/Stmt")):
        raise ConfigError("the file is no statement of a bank (camt.053)")
    if not iban and len({each.findtext("Acct/Id/IBAN", "") for each in statements}) > 1:
        raise ConfigError("the file has statements of two accounts: ask for the town's", "or set office.iban")
    for statement in statements:
        if iban and (of := statement.findtext("Acct/Id/IBAN", "")) != iban:
            raise ConfigError(f"the statement is of an account that ends with {of[-4:]}, not of the town's")
        yield _entries(statement)


def _entries(statement: Element) -> Iterator[Booking]:
    seen = set[object]()
    for entry in statement.iterfind("Ntry"):
        whole = _common(entry)
        said = whole.bank_reference, whole.amount
        yield from _parts(entry, replace(whole, repeats=bool(said[0]) and whole.is_booked and said in seen))
        if whole.is_booked:
            seen.add(said)


def _parts(entry: Element, booking: Booking) -> Iterator[Booking]:
    """Return a booking by its parts, if their amounts are its amount; else whole."""
    whole, parts = _amount(entry, "Amt"), entry.findall("NtryDtls/TxDtls")
    amounts = [_amount(each, "Amt") or _amount(each, "AmtDtls/TxAmt/Amt") for each in parts]
    if len(parts) < 2 or sum(amounts) != whole:
        parts, amounts = parts if len(parts) == 1 else [Element("TxDtls")], [whole]
    sign = 1 if booking.amount == whole else -1
    return (_part(booking, part, sign * amount) for part, amount in zip(parts, amounts, strict=True))


def _amount(element: Element, path: str) -> Decimal:
    return Decimal(element.findtext(path, "0").strip())


def _common(entry: Element) -> Booking:
    """Return what all parts of a booking have in common."""
    day, status = (entry.findtext(a) or entry.findtext(b) or "" for a, b in _EITHER)
    bank = entry.findtext("AcctSvcrRef", "").strip()
    return Booking(
        day=str(date.fromisoformat(day.strip()[:10])),
        amount=_amount(entry, "Amt") * {"CRDT": 1, "DBIT": -1}[entry.findtext("CdtDbtInd", "").strip()],
        currency=entry.findall("Amt")[0].attrib["Ccy"],
        reference=entry.findtext("NtryDtls/Btch/MsgId", ""),
        text="",
        payer="",
        bank_reference="" if bank in _NONE else bank,
        is_booked=status.strip() == "BOOK",
    )


def _part(booking: Booking, part: Element, amount: Decimal) -> Booking:
    def said(*paths: str) -> str:
        found = [(each.text or "").strip() for path in paths for each in part.iterfind(path)]
        return " ".join(each for each in found if each not in _NONE)

    return replace(
        booking,
        amount=amount,
        bank_reference=booking.bank_reference or said("Refs/AcctSvcrRef"),
        reference=said("Refs/EndToEndId") or booking.reference,
        text=said("RmtInf/Strd/CdtrRefInf/Ref", "RmtInf/Ustrd", "Refs/EndToEndId"),
        payer=said(*(f"RltdPties/{side}/{name}" for side in ("Dbtr", "Cdtr") for name in ("Nm", "Pty/Nm"))),
    )


_REFERENCE = re.compile(r"RF(\d\d)((\d{7})20\d\d(?:0[1-9]|1[0-2]))", re.ASCII)
_WORDS = re.compile(r"(?i)\b(?:account|konto|cuenta)\D{0,6}(\d{1,8})\b")


def rf_reference(account: AccountNumber, month: str) -> str:
    """Return the reference of an account's bill of a month: RF, check digits by mod 97-10, account, year and month."""
    body = f"{account:07}{month.replace('-', '')}"
    return f"RF{_check(body)}{body}"


def accounts_in(text: str) -> set[AccountNumber]:
    """Return the accounts that the words of a payment name; a reference with wrong check digits names none."""
    found = _REFERENCE.findall(re.sub(r"[\s.-]", "", text.upper()))
    named = {int(account) for check, body, account in found if _check(body) == check}
    return named or {int(each) for each in _WORDS.findall(text)}


def _check(body: str) -> str:
    return f"{98 - int(f'{body}271500') % 97:02}"  # 2715 are the letters RF
