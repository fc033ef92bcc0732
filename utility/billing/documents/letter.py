"""What makes a printed bill a letter: who sends it to whom, its number and dates, and how it is paid (pure)."""

from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal

from commonwatt.config.office import OfficeSettings
from commonwatt.model.exceptions import ConfigError
from utility.billing.bill import Bill
from utility.billing.documents.writing import Writing, writing_of
from utility.customers.contact import Contact
from utility.ledger.reference import rf_reference
from utility.tariffs.file import BillTable

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
