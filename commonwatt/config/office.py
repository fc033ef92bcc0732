"""The settings of the office: who sends bills, where money goes, mail, codes of the ledger (docs/office.md)."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from commonwatt.config.settings import PLAIN_TEXT, HostName, Settings

Iban = Annotated[str, AfterValidator(lambda text: text.replace(" ", ""))]  # written with spaces or without


class LedgerCodes(Settings):
    """The codes of the office's chart of accounts, for `commonwatt export ledger`."""

    receivables: str = Field("1200", max_length=20, description="What accounts owe.")
    bank: str = Field("1000", max_length=20, description="Money received and paid.")
    energy: str = Field("4000", max_length=20, description="Base and energy billed, less credit.")
    fees: str = Field("4100", max_length=20, description="Fees of reminders and fees that people entered.")
    taxes: str = Field("2200", max_length=20, description="Taxes and levies billed.")
    goodwill: str = Field("5000", max_length=20, description="Goodwill and credit notes.")
    suspense: str = Field("2900", max_length=20, description="Payments that belong to no account yet.")


class MailSettings(Settings):
    """How bills and reminders are mailed."""

    host: HostName | None = Field(None, description="The SMTP server; absent: nothing is mailed.")
    port: int = Field(587, ge=1, le=65535, description="Its port; 465: TLS from the start, else STARTTLS.")
    user: str = Field("", max_length=200, description="The name at its login; empty: there is no login.")
    password: Path | None = Field(None, description="The file with its password.")
    sender: str = Field("", max_length=200, description="The address that mail comes from, and bounces go to.")
    plain_text: bool = Field(False, description=PLAIN_TEXT)


class OfficeSettings(Settings):
    """The office: who sends bills, and where money goes (docs/office.md)."""

    key: Path = Field(
        Path("office-key"),
        description="The key that names and addresses are encrypted with; made at the first use. Keep a copy apart "
        "from the database's: without it they are lost.",
    )
    name: str = Field("", max_length=70, description="Who sends the bills.")
    address: tuple[str, ...] = Field((), max_length=4, description="The lines of its address.")
    logo: Path | None = Field(None, description="A picture for bills, PNG.")
    iban: Iban = Field("", max_length=42, description="The account for payments.")
    bic: str = Field("", max_length=11, description="Its bank.")
    creditor: str = Field("", max_length=35, description="The creditor identifier for direct debits.")
    pay_code: Literal["none", "epc", "swiss"] = Field(
        "none", description="The code on bills that banks' programs read: `epc` (euro), `swiss` (QR-bill)."
    )
    codes: LedgerCodes = Field(LedgerCodes(), description="Codes of the chart of accounts.")
    mail: MailSettings = Field(MailSettings(), description="How bills are mailed.")
