"""Bills and the inputs of a run as bytes: the same bytes for the same content, to store, compare and prove."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from decimal import Decimal
from enum import Enum
from typing import Any

from commonwatt.model.units import AccountNumber
from commonwatt.town.town import Direction, Function
from utility.billing.bill import Bill, Line, LineKind
from utility.billing.proof.canonical import said
from utility.registry.accounts import Account, Dated, DatedRegistry, Holding, Installed


def canonical(content: object) -> bytes:
    """Return JSON with sorted keys and without spaces; amounts and prices are text."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), default=_text).encode()


def bill_bytes(bill: Bill) -> bytes:
    """Return a bill as canonical JSON; lines have only the keys that say something."""
    return canonical(said(bill) | {"lines": [_line(line) for line in bill.lines]})


def bill_of(data: bytes | str) -> Bill:
    """Return the bill that ``bill_bytes`` wrote."""
    content = json.loads(data)
    lines = tuple(_line_of(line) for line in content.pop("lines"))
    tariff, total = tuple(content.pop("tariff")), Decimal(content.pop("total"))
    return Bill(**content, tariff=tariff, total=total, lines=lines)


def digest_of(parts: Iterable[bytes]) -> str:
    """Return the SHA-256 of parts, each with its length before it, hexadecimal."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()


def registry_content(registry: DatedRegistry) -> dict[str, Any]:
    """Return a registry as JSON can keep it."""
    meters = [asdict(meter) for _, meter in sorted(registry.meters.items())]
    accounts = [asdict(account) for _, account in sorted(registry.accounts.items())]
    return {"revision": registry.revision, "meters": meters, "accounts": accounts}


def registry_of(content: Mapping[str, Any]) -> DatedRegistry:
    """Return the registry that ``registry_content`` wrote, before or after JSON."""
    meters = [_meter_of(dict(one)) for one in content["meters"]]
    accounts = [_account_of(dict(one)) for one in content["accounts"]]
    return DatedRegistry(
        revision=content["revision"],
        meters={meter.id: meter for meter in meters},
        accounts={account.number: account for account in accounts},
    )


def _text(value: object) -> object:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    raise TypeError(value)


def _line(line: Line) -> dict[str, Any]:
    return {name: value for name, value in said(line).items() if value not in ("", None)}


def _line_of(content: dict[str, Any]) -> Line:
    rate = content.pop("rate", None)
    return Line(
        kind=LineKind(content.pop("kind")),
        amount=Decimal(content.pop("amount")),
        rate=None if rate is None else Decimal(rate),
        **content,
    )


def _meter_of(content: dict[str, Any]) -> Installed:
    holdings = tuple(Holding(**one) for one in content.pop("holdings"))
    function, direction = Function(content.pop("function")), Direction(content.pop("direction"))
    return Installed(**content, function=function, direction=direction, holdings=holdings)


def _account_of(content: dict[str, Any]) -> Account:
    number: AccountNumber = content["number"]
    return Account(
        number=number,
        function=Function(content["function"]),
        tariffs=tuple(Dated(**one) for one in content["tariffs"]),
        minimums=tuple(Dated(**one) for one in content["minimums"]),
        weights=tuple(Dated(start=one["start"], value=Decimal(one["value"])) for one in content["weights"]),
    )
