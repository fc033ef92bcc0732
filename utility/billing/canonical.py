"""Bills and the inputs of a run as bytes: the same bytes for the same content, to store, compare and prove."""

import hashlib
from collections.abc import Iterable

from pydantic import TypeAdapter

from utility.billing.bill import Bill
from utility.billing.proof.canonical import canonical, plain, said


def bill_bytes(bill: Bill) -> bytes:
    """Return a bill as canonical JSON; lines have only the keys that say something."""
    lines = [{name: value for name, value in said(line).items() if value not in ("", None)} for line in bill.lines]
    return canonical(plain(said(bill) | {"lines": lines}))


def bill_of(data: bytes | str) -> Bill:
    """Return the bill that ``bill_bytes`` wrote."""
    return _BILL.validate_json(data)


def digest_of(parts: Iterable[bytes]) -> str:
    """Return the SHA-256 of parts, each with its length before it, hexadecimal."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()


_BILL = TypeAdapter(Bill)
