"""A bill with everything that its documents show: its texts and its letter (pure)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TypeAlias
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.look.writing import DOLLARS, Writing
from commonwatt.model.calendar import local_day, local_text
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import spaced
from commonwatt.model.units import QUARTER_S, MilliwattHours, Quarter
from utility.billing.bill import LINE_ROWS, Bill, BillLine, LineKind
from utility.billing.proof import Course, Json, MeterQuarters, check_code
from utility.customers.people import Contact
from utility.energy.quarters import Quantity, SettledQuality
from utility.ledger.bank import rf_reference
from utility.settings import OfficeSettings
from utility.tariffs.file import POLICY_WORDS, BillTable


def writing_of(table: BillTable | None, language: str = "") -> Writing:
    """Return how a tariff has bills written, in the language of a household; ``None``: it does not say."""
    if table is None:
        return Writing(language=language or "en")
    return Writing(language=language or table.language, numbers=table.numbers, currency=table.currency)


_CURRENCIES = {"epc": ("EUR",), "swiss": ("CHF", "EUR")}  # of each code for banks' programs


@dataclass(frozen=True, kw_only=True)
class Letter:
    """What a printed bill has besides the bill."""

    writing: Writing  # how it is written
    number: str  # the number of the bill, unique for ever: month, run, account
    reference: str  # what a payment of it says, ISO 11649
    office: OfficeSettings = field(repr=False)  # who sends it, and where money goes
    to: Contact | None = field(default=None, repr=False)  # whom it goes to; ``None``: it is not known
    is_deleted: bool = False  # whether name and address were known and were deleted
    issued: date | None = None  # when it was issued; ``None``: it is a draft
    due: date | None = None  # when it is due; ``None``: it is a draft
    owed: int = 0  # what the account owed before, cents; negative: it had something in its favour

    def to_pay(self, bill: Bill) -> Decimal:
        """Return what is to be paid with what was owed before; negative: it is in favour of the account."""
        return bill.total + Decimal(self.owed).scaleb(-2)

    def address(self) -> list[str]:
        """Return the lines of the address."""
        if self.to is None:
            return [self.writing.say("Name and address were deleted on request.")] if self.is_deleted else []
        who, is_american = self.to, self.writing.currency == "USD"
        place = f"{who.city} {who.postcode}" if is_american else f"{who.postcode} {who.city}"
        return [who.name, who.street, place.strip(), who.country if who.country != self.office.iban[:2] else ""]


def letter_of(
    office: OfficeSettings,
    bill: Bill,
    run: int,
    table: BillTable | None,
    to: Contact | None,
    issued: date | None = None,
    payment_days: int = 0,
    owed: int = 0,
) -> Letter | None:
    """Return the letter of a bill of a run; ``None``: the town uses no names, currency or office."""
    if table is None and not (bill.addressee or office.name or office.iban):
        return None
    table, code = table or BillTable(), office.pay_code
    has_all = office.name and office.iban and office.address
    if code != "none" and not (has_all and table.currency in _CURRENCIES[code]):
        currencies = " or ".join(_CURRENCIES[code])
        raise ConfigError(
            f"office.pay_code {code!r} needs name, address and iban of the office, and bills in {currencies}"
        )
    return Letter(
        writing=writing_of(table, to.language if to else ""),
        number=f"{bill.month}/{run}-{bill.account}",
        reference=rf_reference(bill.account, bill.month),
        office=office,
        to=to,
        is_deleted=bool(bill.addressee) and to is None,
        issued=issued,
        due=issued + timedelta(days=payment_days) if issued else None,
        owed=owed,
    )


KWH: MilliwattHours = 1_000_000  # milliwatt-hours of a kilowatt-hour

Row: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Statement:
    """A bill with its quarter-hours and its month's head."""

    bill: Bill  # the bill
    customer: str  # the kind of the account's place, such as ``house``
    zone: ZoneInfo  # the zone of local times
    meters: tuple[MeterQuarters, ...] = ()  # the settled quarter-hours of the account's meters in the month
    state: str = "draft"  # of its run: ``draft``, ``checked``, ``issued`` or ``cancelled``
    head: Json = None  # the month's head; ``None``: the run has none yet
    letter: Letter | None = None  # what makes it a letter; ``None``: the town uses none

    @property
    def writing(self) -> Writing:
        """How it is written."""
        return DOLLARS if self.letter is None else self.letter.writing


@dataclass(frozen=True, kw_only=True, eq=False)
class HourEnergies:
    """The account's energy by local hour."""

    starts: tuple[int, ...]  # the first second of each hour, UTC
    energies: Mapping[Quantity, Course]  # by quantity, milliwatt-hours, one for each hour
    worst: Course  # the worst ``SettledQuality`` of the hour's quarters


@dataclass(frozen=True, kw_only=True)
class Texts:
    """What a bill's documents say."""

    title: str  # the heading
    facts: Sequence[Row]  # names and values
    lines: Sequence[Row]  # text, energy in kWh, rate, amount; the total is last
    notes: Sequence[str]  # sentences about the data
    # The town's totals beside the code: customers, accounts, billed, kWh imported, kWh exported.
    totals: Sequence[Row] = field(default=())
    code: str = ""  # the check code; empty: none yet


LINES_HEAD: Row = ("", "kWh", "rate, {currency}", "{currency}")
TOTALS_HEAD: Row = ("Customers", "accounts", "billed, {currency}", "imported, kWh", "exported, kWh")

CODE_WORDS = (
    "This code is on every bill of the month. If your neighbour's bill has the same, "
    "both bills stand in the same list of the whole town. Your receipt shows that your bill is in it: "
    "docs/billing.md."
)


def over_meters(bill: Bill, meters: Sequence[MeterQuarters]) -> tuple[Mapping[Quantity, Course], Course]:
    """Return the energy of each quarter of a bill over the account's meters, and the worst quality of it."""
    count = bill.end - bill.start
    found = {quantity: np.zeros(count, np.int64) for quantity in Quantity}
    worst = np.full(count, max(SettledQuality), np.int64)
    for meter in meters:
        span = slice(meter.first - bill.start, meter.first - bill.start + len(meter.quality))
        worst[span] = np.minimum(worst[span], meter.quality)
        for quantity, energy in meter.energies.items():
            found[quantity][span] += energy
    return found, worst


def hours(statement: Statement) -> HourEnergies:
    """Return the account's energy by local hour, over all its meters."""
    bill = statement.bill
    starts = _hour_starts(bill.start, bill.end, statement.zone)
    edges = np.array([start // QUARTER_S for start in starts], np.int64).clip(bill.start) - bill.start
    found, worst = over_meters(bill, statement.meters)
    return HourEnergies(
        starts=starts,
        energies={quantity: np.add.reduceat(energy, edges) for quantity, energy in found.items()},
        worst=np.minimum.reduceat(worst, edges),
    )


def texts(statement: Statement, writing: Writing | None = None) -> Texts:
    """Return what the documents of a bill say; ``writing``: a page, that writes otherwise than the letter."""
    bill, head, writing = statement.bill, statement.head, writing or statement.writing
    issued = "Final bill, {month}" if bill.is_final else "Bill, {month}"
    titles = {"issued": issued, "cancelled": "Cancelled bill, {month}"}
    return Texts(
        title=writing.say(titles.get(statement.state, "Draft of a bill, {month}"), month=writing.month(bill.month)),
        facts=tuple((writing.say(name), value) for name, value in _facts(statement, writing)),
        lines=tuple(_lines(statement, writing)),
        notes=tuple(_notes(bill, writing)),
        totals=() if head is None else tuple(_group(each, writing) for each in head["groups"]),
        code="" if head is None else check_code(head),
    )


def _facts(statement: Statement, writing: Writing) -> list[Row]:
    bill, letter = statement.bill, statement.letter
    account = ("Account", f"{bill.account} ({writing.say(statement.customer.replace('_', ' '))})")
    replaced = (statement.head or {}).get("replaces", "")
    rates = (
        ("Rates", writing.say(", then ").join(bill.tariff)),
        ("Rules", writing.say(POLICY_WORDS[bill.policy])),
        *([("Replaces", writing.say("the bill with the check code")), ("", spaced(replaced))] if replaced else []),
    )
    if letter is None:
        times = (("From", local_text(bill.start, statement.zone)), ("Until", local_text(bill.end, statement.zone)))
        return [account, *times, *rates]
    days = [local_day(at * QUARTER_S, statement.zone) for at in (bill.start, bill.end - 1)]
    dates = [(name, day) for name, day in (("Issued", letter.issued), ("Due", letter.due)) if day is not None]
    return [
        ("Bill number", letter.number),
        account,
        ("Period", " - ".join(map(writing.day, days))),
        *((name, writing.day(day)) for name, day in dates),
        *rates,
    ]


def _lines(statement: Statement, writing: Writing) -> Iterator[Row]:
    """Yield the rows of the lines; the total is last."""
    bill, letter = statement.bill, statement.letter
    for line in bill.lines:
        yield _line(line, writing)
    if letter is not None and letter.owed:
        for text, amount in (
            ("Sum of this bill", bill.total),
            ("Balance before this bill", Decimal(letter.owed).scaleb(-2)),
        ):
            yield writing.say(text), "", "", writing.number(f"{amount:,f}")
    total = bill.total if letter is None else letter.to_pay(bill)
    yield writing.say("To pay"), "", "", writing.number(f"{total:,f}")


def kwh(energy: MilliwattHours | None) -> str:
    """Return an energy in kilowatt-hours with three decimals, or nothing."""
    return "" if energy is None else f"{Decimal(energy) / KWH:,.3f}"


def line_text(writing: Writing, line: BillLine) -> str:
    """Return the text of a bill's line in the language."""
    if line.kind is LineKind.CORRECTION:
        return line.text.replace("Correction of", writing.say("Correction of"), 1)
    return line.text if LINE_ROWS[line.kind].is_entered else writing.line(line.text)


def _line(line: BillLine, writing: Writing) -> Row:
    text = line_text(writing, line)
    text = f"{text} ({line.reason})" if line.reason else text
    rate = "" if line.rate is None else f"{line.rate:f}"
    amount = f"{line.amount:,f}" if line.kind != "information" else ""
    return text, *map(writing.number, (kwh(line.energy), rate, amount))


def _notes(bill: Bill, writing: Writing) -> Sequence[str]:
    """Return sentences about data that is not as it should be."""
    whole = bill.end - bill.start
    counts = (
        (bill.provisional, "may still change; a later change is a line on your next bill."),
        (bill.estimated, "have an estimate: the meter's readings did not arrive in time."),
        (bill.missing, "lack readings. Of them, only what was read is charged or credited."),
    )
    begin = "{count} of {whole} quarter-hours"
    return [
        f"{writing.say(begin, count=str(count), whole=str(whole))} {writing.say(words)}"
        for count, words in counts
        if count
    ]


def _group(group: Json, writing: Writing) -> Row:
    names = ", ".join(writing.say(name.replace("_", " ")) for name in group["customers"])
    billed = None if group["billed"] is None else f"{Decimal(group['billed']):,f}"
    energies = (None if each is None else kwh(each) for each in (group["imported_mwh"], group["exported_mwh"]))
    figures = (f"{group['accounts']:,}", billed, *energies)
    return names, *(writing.say("withheld") if each is None else writing.number(each) for each in figures)


def _hour_starts(first: Quarter, end: Quarter, zone: ZoneInfo) -> tuple[int, ...]:
    """Return the seconds at which local hours begin, from the one that has ``first`` on."""
    offset = int((datetime.fromtimestamp(first * QUARTER_S, zone).utcoffset() or timedelta()).total_seconds()) % 3600
    begin = (first * QUARTER_S + offset) // 3600 * 3600 - offset
    return tuple(range(begin, end * QUARTER_S, 3600))
