"""An auditor's checks of a month, from leaves, boundary meters and the head (C5): nothing of the utility's.

The leaves file has one JSON value a line: the head, then each leaf with its salt. It names every account's energy and
amount: it is for auditors alone. What the boundary meters show is the auditor's own reading.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from commonwatt.model.units import MicrogridId, MilliwattHours
from utility.billing.proof import TOWN, Json, Leaf, canonical, check_code, leaf_hash, root, totals


@dataclass(frozen=True, kw_only=True)
class BoundaryMeters:
    """The boundary meters of a microgrid in the month."""

    microgrid: MicrogridId  # the microgrid
    imported: MilliwattHours  # from the town, through the boundary's meter
    exported: MilliwattHours  # to the town
    # By how much members and boundary may differ: what the resolution of readings, averages and the stated losses of
    # the loop explain (docs/settlement.md).
    allowed: MilliwattHours


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What an audit found."""

    leaves: int  # the leaves read
    bills: int  # bills among them
    microgrids: int  # microgrids compared with their boundary
    largest: MilliwattHours  # the largest difference of members and boundary, milliwatt-hours, imports or exports
    faults: tuple[str, ...]  # what is wrong, in words with its place; empty: nothing
    code: str  # the check code of the head, to be compared with printed bills


def leaves_file(head: Json, leaves: Iterable[Leaf]) -> Iterator[str]:
    """Return the lines of the leaves file."""
    yield _line({"head": head})
    for leaf in leaves:
        yield _line({"leaf": leaf.content, "salt": leaf.salt.hex()})


def audit(lines: Iterable[str], boundaries: Sequence[BoundaryMeters] | None = None) -> Audit:
    """Return what is wrong with a month.

    Args:
        boundaries: What the boundary meters of every microgrid show; ``None``: they are not compared.

    Raises:
        ValueError: The file can't be read; the text names the line.
    """
    records = [_read(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if len(records) < 2 or "head" not in records[0]:
        raise ValueError("line 1 is not a head, or there is no leaf")
    head = records[0]["head"]
    try:
        contents = [record["leaf"] for record in records[1:]]
        hashes = [leaf_hash(bytes.fromhex(record["salt"]), canonical(record["leaf"])) for record in records[1:]]
        differences = list(_boundary(boundaries, contents))
        faults = [
            *_root(head, hashes),
            *_totals(head, contents),
            *(fault for content in contents for fault in _bill(content, head["month"])),
            *_twice(contents),
            *(fault for _, fault in differences if fault),
        ]
        bills = sum(content["bill"] is not None for content in contents)
    except (KeyError, TypeError, AttributeError, RecursionError) as missing:
        raise ValueError(f"a record of the file lacks a key or has another form: {missing}") from missing
    except ArithmeticError as fault:
        raise ValueError("an amount of the file is no number") from fault
    return Audit(
        leaves=len(contents),
        bills=bills,
        microgrids=len(boundaries or ()),
        largest=max((difference for difference, _ in differences), default=0),
        faults=tuple(faults),
        code=check_code(head),
    )


def _root(head: Json, hashes: Sequence[bytes]) -> Iterator[str]:
    if head["leaves"] != len(hashes):
        yield f"the head counts {head['leaves']} leaves, the file has {len(hashes)}"
    found = root(hashes).hex()
    if found != head["root"]:
        yield f"the root of the leaves is {found}, the head has {head['root']}"


def _totals(head: Json, contents: Sequence[Json]) -> Iterator[str]:
    found = totals(contents)
    if found == head["groups"]:
        return
    for ours, theirs in zip(found, head["groups"], strict=False):
        for key in sorted({*ours, *theirs}):
            if ours.get(key) != theirs.get(key):
                yield f"totals of {', '.join(ours['customers'])}: {key} is {ours.get(key)}, the head {theirs.get(key)}"
    if len(found) != len(head["groups"]):
        yield f"the leaves make {len(found)} groups, the head has {len(head['groups'])}"


def _bill(content: Json, month: str) -> Iterator[str]:
    bill, account = content["bill"], content["account"]
    if bill is None:
        if account != TOWN:
            yield f"account {account}: there is no bill"
        return
    if bill["account"] != account or bill["month"] != month:
        yield f"account {account}: the bill is of account {bill['account']} for {bill['month']}"
    found = sum((Decimal(line["amount"]) for line in bill["lines"]), Decimal(0))
    if found != Decimal(bill["total"]):
        yield f"account {account}: the lines sum to {found}, the bill says {bill['total']}"
    if Decimal(bill["total"]) < 0 and not bill.get("is_final"):
        yield f"account {account}: the total is negative: {bill['total']}"


def _twice(contents: Sequence[Json]) -> Iterator[str]:
    """Yield accounts with several leaves, and meters that several leaves have in the same quarter."""
    accounts, spans = [content["account"] for content in contents], defaultdict(list)
    yield from (
        f"account {account}: there are several leaves"
        for account, following in pairwise(accounts)
        if account >= following
    )
    for content in contents:
        for meter in content["meters"]:
            spans[meter["meter"]].append((meter["first"], meter["first"] + meter["quarters"], content["account"]))
    for name, held in spans.items():
        held.sort()
        for (_, end, one), (start, _, other) in pairwise(held):
            if start < end:
                yield f"meter {name}: accounts {one} and {other} both have it in quarter {start}"


def _boundary(
    boundaries: Sequence[BoundaryMeters] | None, contents: Sequence[Json]
) -> Iterator[tuple[MilliwattHours, str]]:
    """Yield each difference of the members of a microgrid to its boundary, and what is wrong with it, or nothing."""
    sums: dict[MicrogridId, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for content in contents:
        for meter in content["meters"]:
            for name, energy in meter["sums_mwh"].items():
                sums[meter["microgrid"]][name] += energy
    for boundary in boundaries or ():
        of = sums.pop(boundary.microgrid, {})
        for name, passed in (("imported", boundary.imported), ("exported", boundary.exported)):
            difference = of.get(name, 0) - passed
            yield (
                abs(difference),
                ""
                if abs(difference) <= boundary.allowed
                else f"microgrid {boundary.microgrid}: its members {name} {of.get(name, 0)} mWh, its boundary "
                f"{passed} mWh: {difference:+} mWh, and {boundary.allowed} mWh are explained",
            )
        yield from _sharing(boundary.microgrid, of)
    for microgrid, of in sums.items():
        if boundaries is not None:
            yield 0, f"microgrid {microgrid}: there is no boundary to compare with"
        yield from _sharing(microgrid, of)


def _sharing(microgrid: MicrogridId, of: Mapping[str, MilliwattHours]) -> Iterator[tuple[MilliwattHours, str]]:
    given, received = of.get("shared_out", 0), of.get("shared_in", 0)
    if given != received:
        yield 0, f"microgrid {microgrid}: members shared {given} mWh and received {received} mWh"


def _line(value: Json) -> str:
    return canonical(value).decode("ascii")


def _read(number: int, line: str) -> Json:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as fault:
        raise ValueError(f"line {number}: {fault}") from None
    if not isinstance(found, dict):
        raise ValueError(f"line {number}: not an object")
    return found
