"""The documents of the whole town's bills: PDF on one core."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.config.office import OfficeSettings
from commonwatt.model.ids import MeterId
from commonwatt.model.units import Quarter
from commonwatt.settlement.settled import Quantity, SettledQuarters
from harness.billing.worlds import ZONE, tariff, whole_town
from harness.docs.measured import Goal, Section, Table, number
from utility.billing.documents.letter import Letter, letter_of
from utility.billing.documents.pdf import as_pdf
from utility.billing.documents.receipt import quarters_of_accounts
from utility.billing.documents.statement import Statement
from utility.billing.stored_run import Computed, StoredRun, computed
from utility.customers.contact import Contact
from utility.tariffs.file import BillTable

ACCOUNTS = 8_303
SECRET = bytes(32)
_GIVEN = (Quantity.EXPORTED, Quantity.SHARED_OUT)


def bench(*, smoke: bool = False) -> Section:
    """Make the bills of the town, and print some hundreds of them."""
    run = _run(smoke=smoke)
    bills = computed(run, _settled)
    head = bills.tree(SECRET).head
    some = sorted(bills.billed)[:: 50 if smoke else 20]
    statements = [_statement(bills, account, head) for account in some]
    pdf, pdf_bytes = _each(as_pdf, statements)
    letters = [replace(each, letter=_letter(each)) for each in statements]
    letter, letter_bytes = _each(as_pdf, letters)
    goals = (Goal(what="8,303 bills as PDF", value=pdf * ACCOUNTS, unit="s", at_most=60, limited_by="fpdf2's text."),)
    return Section(
        title="Documents of bills",
        about=f"A month of {len(bills.billed)} accounts in memory: documents of {len(some)} bills, in CPU seconds of "
        f"one core; the figure for all is their mean times {ACCOUNTS:,}.",
        goals=goals,
        tables=(
            Table(
                title="Bills of a month",
                columns=("what", "CPU seconds", "bytes each"),
                rows=(
                    ("all as PDF", number(pdf * ACCOUNTS), number(pdf_bytes)),
                    ("all as letters with a Swiss QR-bill", number(letter * ACCOUNTS), number(letter_bytes)),
                ),
            ),
        ),
    )


def _run(*, smoke: bool = False) -> StoredRun:
    registry, ids = whole_town()
    if smoke:
        some = {number: registry.meters[number] for number in ids[:200]}
        registry = replace(registry, meters=some)
    return StoredRun(
        month="2026-11",
        timezone=ZONE,
        default="town",
        code="1",
        settled=1,
        previous=0,
        tariffs=(tariff().canonical(),),
        registry=registry,
    )


def _settled(meters: Sequence[MeterId], first: Quarter, until: Quarter) -> SettledQuarters:
    """Return quarter-hours that follow from meter and time: of homes that give by day and take at other times."""
    shape = len(meters), until - first
    spread = np.array(meters, np.int64)[:, None] * 7_919 + np.arange(first, until) * 104_729
    is_day = (np.arange(first, until) % 96 >= 54) & (np.arange(first, until) % 96 < 82)  # 8:30 am to 3:30 pm
    return SettledQuarters(
        meters=np.array(meters, np.uint64),
        first=first,
        energies={
            quantity: spread * (2 * quantity + 1) % 500_000 * (is_day == (quantity in _GIVEN)) for quantity in Quantity
        },
        quality=np.full(shape, 4, np.uint8),
        provisional=np.zeros(shape, np.bool_),
        version=np.ones(shape, np.int32),
    )


def _statement(bills: Computed, account: int, head: object) -> Statement:
    meters = quarters_of_accounts(bills.run.inputs(), [account], _settled)[account]
    return Statement(
        bill=bills.billed[account].bill,
        customer="house",
        zone=ZoneInfo(ZONE),
        meters=tuple(meters),
        state="issued",
        head=head,
    )


def _letter(statement: Statement) -> Letter | None:
    office = OfficeSettings(name="Werke", address=("Weg 1", "8000 Zug"), iban="CH5604835012345678009", pay_code="swiss")
    name = "Anna Müller" if statement.bill.account % 10 else "Zofia Łukasz"  # Helvetica lacks a letter
    to = Contact(name=name, street="Gasse 5", postcode="8001", city="Zug", language="de")
    return letter_of(office, statement.bill, 1, BillTable(currency="CHF"), to, date(2026, 12, 5), 30)


def _each(make: Callable[[Statement], bytes], statements: Sequence[Statement]) -> tuple[float, float]:
    """Return the mean CPU seconds and bytes of a document."""
    start = time.process_time()
    sizes = [len(make(statement)) for statement in statements]
    return (time.process_time() - start) / len(sizes), sum(sizes) / len(sizes)
