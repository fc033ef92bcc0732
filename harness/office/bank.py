"""The town's bank: what people pay, as statements (camt.053); it knows whose each payment is."""

from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from harness.office.town import IBAN

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
