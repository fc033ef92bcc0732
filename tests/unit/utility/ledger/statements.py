"""Statements of a bank, camt.053, in two versions; validated by the published schemas."""

from functools import cache
from pathlib import Path

import xmlschema

SCHEMAS = Path(__file__).parent / "schemas"
OWN = "DE89370400440532013000"


@cache
def _schema(message: str) -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(SCHEMAS / f"{message}.xsd")


def valid(text: str, message: str) -> bytes:
    """Return a document that the published schema of its message allows."""
    _schema(message).validate(text)
    return text.encode()


def name_of(name: str, version: str) -> str:
    return f"<Nm>{name}</Nm>" if version == "02" else f"<Pty><Nm>{name}</Nm></Pty>"


def part(amount: str, text: str, version: str, order: str = "NOTPROVIDED", sign: str = "CRDT") -> str:
    """Return the details of one payment; of a debit, that it was returned."""
    money = f'<Amt Ccy="EUR">{amount}</Amt>'
    whole = f"<AmtDtls><TxAmt>{money}</TxAmt></AmtDtls>" if version == "02" else f"{money}<CdtDbtInd>{sign}</CdtDbtInd>"
    why = "<RtrInf><Rsn><Cd>AC04</Cd></Rsn></RtrInf>" if sign == "DBIT" else ""
    refs = f"<Refs><EndToEndId>{order}</EndToEndId></Refs>"
    side = f"<RltdPties><Dbtr>{name_of('Eva Müller', version)}</Dbtr></RltdPties>"
    return f"<TxDtls>{refs}{whole}{side}<RmtInf><Ustrd>{text}</Ustrd></RmtInf>{why}</TxDtls>"


def entry(
    amount: str,
    parts: str,
    version: str,
    bank: str = "",
    sign: str = "CRDT",
    status: str = "BOOK",
) -> str:
    """Return a booking."""
    said = status if version == "02" else f"<Cd>{status}</Cd>"
    ref = f"<AcctSvcrRef>{bank}</AcctSvcrRef>" if bank else ""
    code = "<BkTxCd><Prtry><Cd>NTRF</Cd></Prtry></BkTxCd>"
    return (
        f'<Ntry><Amt Ccy="EUR">{amount}</Amt><CdtDbtInd>{sign}</CdtDbtInd><Sts>{said}</Sts>'
        f"<BookgDt><Dt>2026-12-05</Dt></BookgDt>{ref}{code}<NtryDtls>{parts}</NtryDtls></Ntry>"
    )


def statement(entries: str, version: str, iban: str = OWN, number: str = "S1") -> bytes:
    """Return a valid statement of the town's account."""
    balances = "".join(
        f'<Bal><Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp><Amt Ccy="EUR">0.00</Amt><CdtDbtInd>CRDT</CdtDbtInd>'
        "<Dt><Dt>2026-12-05</Dt></Dt></Bal>"
        for code in ("OPBD", "CLBD")
    )
    message = f"camt.053.001.{version}"
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?><Document xmlns="urn:iso:std:iso:20022:tech:xsd:{message}">'
        "<BkToCstmrStmt><GrpHdr><MsgId>M1</MsgId><CreDtTm>2026-12-05T20:00:00</CreDtTm></GrpHdr>"
        f"<Stmt><Id>{number}</Id><CreDtTm>2026-12-05T20:00:00</CreDtTm><Acct><Id><IBAN>{iban}</IBAN></Id></Acct>"
        f"{balances}{entries}</Stmt></BkToCstmrStmt></Document>"
    )
    return valid(text, message)
