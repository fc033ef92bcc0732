"""A small town with a year of settled quarter-hours, its console on a clock that people move, and its bank."""

from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import count
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import FastAPI

from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.clock import Clock
from commonwatt.town.loading import load_town
from harness.console import Browser, standing_api
from harness.office.desk import Desk
from harness.surroundings.stored import random_day, settle
from utility.access.people import Role
from utility.assembly.application import make_app
from utility.database.database import Database, open_database
from utility.database.migrate import empty_database
from utility.registry.store.registration import fill_registry
from utility.settings import OfficeSettings, UtilitySettings
from utility.settlement.store.readings import owners

ZONE = ZoneInfo("Europe/Vienna")
FIRST, UNTIL = date(2025, 12, 31), date(2027, 1, 2)  # the UTC days that are settled
IBAN = "DE89370400440532013000"

_TOWN = """
[town]
timezone = "Europe/Vienna"
[[microgrid]]
id = "r"
kind = "residential"
count = 2
houses = 5
[[microgrid]]
id = "apt"
kind = "apartment"
buildings = 1
apartments = 7
[[microgrid]]
id = "pub"
kind = "public"
"""


def local(text: str) -> EpochSeconds:
    """Return a local time of the town, such as ``2026-02-03 09:00``."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp())


class OfficeTown:
    """The town, its database and console."""

    def __init__(self, folder: Path, **office: object) -> None:
        self.folder, self.file = folder, folder / "utility.db"
        self.file.write_bytes(empty_database())
        self.database: Database = open_database(f"sqlite:///{self.file}", create=True)
        (folder / "town.toml").write_text(_TOWN)
        with self.database.writes.begin() as connection:
            fill_registry(connection, load_town(folder / "town.toml"))
        self.clock = Clock(origin=local("2025-12-10 09:00"), monotonic_origin=0, speed=0)
        named = OfficeSettings.model_validate(
            {"key": folder / "office.key", "name": "Sonnstadt", "iban": IBAN, "creditor": "DE98ZZZ09999999999"} | office
        )
        self.settings = UtilitySettings(second_factor="optional", office=named)
        self.app: FastAPI = make_app(
            standing_api(self.database, 0, clock=self.clock, settings=self.settings, machine_s=self.now)
        )
        self._desks: list[Desk] = []
        self.config = folder / "utility.toml"  # the utility's file, for commands
        self.config.write_text(f'[utility]\ndatabase = "sqlite:///{self.file}"\n')

    def now(self) -> EpochSeconds:
        """Return the time."""
        return int(self.clock.now())

    def settle_year(self) -> None:
        """Store the settled quarter-hours of the year, as the job of settlement does."""
        with self.database.reads.begin() as connection:
            members = list(owners(connection).values())
        for day in range((FIRST - date(1970, 1, 1)).days, (UNTIL - date(1970, 1, 1)).days):
            settle(self.database, members, random_day(members, day))

    def person(self, name: str, *roles: Role, account: int | None = None) -> Desk:
        """Return a person at the console."""
        desk = Desk(lambda: Browser(self.app, *roles, name=name, account=account))
        self._desks.append(desk)
        return desk

    def morning(self, text: str) -> None:
        """Go on to a local time; people log in again."""
        self.clock.origin = local(text)
        for desk in self._desks:
            desk.come()


_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?><Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08">'
    "<BkToCstmrStmt><GrpHdr><MsgId>M</MsgId><CreDtTm>2026-01-01T20:00:00</CreDtTm></GrpHdr><Stmt><Id>S</Id>"
    f"<CreDtTm>2026-01-01T20:00:00</CreDtTm><Acct><Id><IBAN>{IBAN}</IBAN></Id></Acct>"
)


def reference(account: int, month: str) -> str:
    """Return the creditor reference (ISO 11649) of an account's bill of a month."""
    body = f"{account:07}{month.replace('-', '')}"
    return f"RF{98 - int(f'{body}271500') % 97:02}{body}"


@dataclass(frozen=True, kw_only=True)
class Paid:
    """A booking of the town's account."""

    day: str  # its local day
    cents: int  # received; negative: paid out or returned
    text: str  # the payer's words
    account: int  # whose it is in truth; 0: of none
    payer: str = "Somebody"  # the payer's name
    order: str = "NOTPROVIDED"  # the end-to-end reference
    currency: str = "EUR"  # ISO 4217
    bank: str = ""  # the bank's reference
    parts: tuple[tuple[int, int], ...] = ()  # accounts and cents of what was given to others


@dataclass
class Bank:
    """The bank; ``booked`` has each booking once."""

    booked: dict[str, Paid] = field(default_factory=dict)  # by the bank's reference
    numbers: "count[int]" = field(default_factory=count)

    def book(self, day: str, cents: int, text: str, account: int, **more: Any) -> str:
        """Book a payment; return the bank's reference."""
        bank = f"B{next(self.numbers):06}"
        self.booked[bank] = Paid(day=day, cents=cents, text=text, account=account, bank=bank, **more)
        return bank

    def change(self, bank: str, **changes: Any) -> None:
        """Change whose a booking is for the ledger: a payment that waits is of none."""
        self.booked[bank] = replace(self.booked[bank], **changes)

    def statement(self, *which: str) -> bytes:
        """Return the statement of some bookings."""
        return (
            f"{_HEAD}{''.join(_entry(self.booked[each]) for each in which)}</Stmt></BkToCstmrStmt></Document>".encode()
        )

    def rows(self) -> list[dict[str, str]]:
        """Return the bookings as the ledger's checker reads them; what has another currency is not of the ledger."""
        euro = [each for each in self.booked.values() if each.currency == "EUR"]
        parts = [(account, cents) for each in euro for account, cents in each.parts]
        parts += [(each.account, each.cents - sum(cents for _, cents in each.parts)) for each in euro]
        return [{"cents": str(cents), "account": str(account)} for account, cents in parts if cents]


def _entry(paid: Paid) -> str:
    sign, cents = ("CRDT", paid.cents) if paid.cents > 0 else ("DBIT", -paid.cents)
    money = f'<Amt Ccy="{paid.currency}">{cents // 100}.{cents % 100:02}</Amt><CdtDbtInd>{sign}</CdtDbtInd>'
    why = "<RtrInf><Rsn><Cd>AC04</Cd></Rsn></RtrInf>" if sign == "DBIT" else ""
    return (
        f"<Ntry>{money}<Sts><Cd>BOOK</Cd></Sts><BookgDt><Dt>{paid.day}</Dt></BookgDt><AcctSvcrRef>{paid.bank}"
        f"</AcctSvcrRef><BkTxCd><Prtry><Cd>NTRF</Cd></Prtry></BkTxCd><NtryDtls><TxDtls><Refs><EndToEndId>{paid.order}"
        f"</EndToEndId></Refs>{money}<RltdPties><Dbtr><Pty><Nm>{paid.payer}</Nm></Pty></Dbtr></RltdPties><RmtInf>"
        f"<Ustrd>{paid.text}</Ustrd></RmtInf>{why}</TxDtls></NtryDtls></Ntry>"
    )
