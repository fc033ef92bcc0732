"""A bill with everything that its documents show, and their texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeAlias
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.model.units import QUARTER_S, MilliwattHours, Quarter
from commonwatt.settlement.settled import Quantity, SettledQuality
from utility.billing.bill import Bill, Line
from utility.billing.proof.canonical import Json
from utility.billing.proof.head import check_code
from utility.billing.proof.leaf import Course, MeterQuarters
from utility.tariffs.policy_settings import POLICY_WORDS

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


@dataclass(frozen=True, kw_only=True, eq=False)
class Hours:
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


LINES_HEAD: Row = ("", "kWh", "rate, $", "$")
TOTALS_HEAD: Row = ("Customers", "accounts", "billed, $", "imported, kWh", "exported, kWh")

_TITLES = {"issued": "Bill", "cancelled": "Cancelled bill"}
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


def hours(statement: Statement) -> Hours:
    """Return the account's energy by local hour, over all its meters."""
    bill = statement.bill
    starts = _hour_starts(bill.start, bill.end, statement.zone)
    edges = np.array([start // QUARTER_S for start in starts], np.int64).clip(bill.start) - bill.start
    found, worst = over_meters(bill, statement.meters)
    return Hours(
        starts=starts,
        energies={quantity: np.add.reduceat(energy, edges) for quantity, energy in found.items()},
        worst=np.minimum.reduceat(worst, edges),
    )


def texts(statement: Statement) -> Texts:
    """Return what the documents of a bill say."""
    bill, head = statement.bill, statement.head
    replaced = (head or {}).get("replaces", "")
    month = datetime.strptime(bill.month, "%Y-%m").strftime("%B %Y")  # noqa: DTZ007 - a name alone
    return Texts(
        title=f"{_TITLES.get(statement.state, 'Draft of a bill')}, {month}",
        facts=(
            ("Account", f"{bill.account} ({statement.customer.replace('_', ' ')})"),
            ("From", _local(bill.start, statement.zone)),
            ("Until", _local(bill.end, statement.zone)),
            ("Rates", ", then ".join(bill.tariff)),
            ("Rules", POLICY_WORDS[bill.policy]),
            *([("Replaces", "the bill with the check code"), ("", spaced(replaced))] if replaced else []),
        ),
        lines=(*map(_line, bill.lines), ("To pay", "", "", f"{bill.total:,f}")),
        notes=tuple(_notes(bill)),
        totals=() if head is None else tuple(map(_group, head["groups"])),
        code="" if head is None else check_code(head),
    )


def kwh(energy: MilliwattHours | None) -> str:
    """Return an energy in kilowatt-hours with three decimals, or nothing."""
    return "" if energy is None else f"{Decimal(energy) / KWH:,.3f}"


def spaced(code: str) -> str:
    """Return a code in groups of eight, for people who compare it."""
    return " ".join(code[at : at + 8] for at in range(0, len(code), 8))


def _line(line: Line) -> Row:
    text = f"{line.text} ({line.reason})" if line.reason else line.text
    rate = "" if line.rate is None else f"{line.rate:f}"
    return text, kwh(line.energy), rate, f"{line.amount:,f}" if line.kind != "information" else ""


def _notes(bill: Bill) -> Sequence[str]:
    """Return sentences about data that is not as it should be."""
    whole = bill.end - bill.start
    counts = (
        (bill.provisional, "may still change; a later change is a line on your next bill."),
        (bill.estimated, "have an estimate: the meter's readings did not arrive in time."),
        (bill.missing, "lack readings. Of them, only what was read is charged or credited."),
    )
    return [f"{count} of {whole} quarter-hours {words}" for count, words in counts if count]


def _group(group: Json) -> Row:
    names = ", ".join(name.replace("_", " ") for name in group["customers"])
    billed = "withheld" if group["billed"] is None else f"{Decimal(group['billed']):,f}"
    energies = (group["imported_mwh"], group["exported_mwh"])
    return names, f"{group['accounts']:,}", billed, *("withheld" if each is None else kwh(each) for each in energies)


def _hour_starts(first: Quarter, end: Quarter, zone: ZoneInfo) -> tuple[int, ...]:
    """Return the seconds at which local hours begin, from the one that has ``first`` on."""
    offset = int((datetime.fromtimestamp(first * QUARTER_S, zone).utcoffset() or timedelta()).total_seconds()) % 3600
    begin = (first * QUARTER_S + offset) // 3600 * 3600 - offset
    return tuple(range(begin, end * QUARTER_S, 3600))


def _local(quarter: Quarter, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(quarter * QUARTER_S, zone).strftime("%Y-%m-%d %H:%M")
