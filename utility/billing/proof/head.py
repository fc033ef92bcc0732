"""The head of a month: the root, and the totals that stand beside it; its check code is on every bill (U2).

Totals are of groups of accounts. A group has at least 15, or no totals are given; each account is in exactly one group,
and no sum over several groups is given, so that no difference of totals is a single bill. A total of which one account
has more than 15 % is withheld, since it would nearly be that account's.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal

from utility.billing.proof.canonical import Json, canonical
from utility.billing.proof.leaf import TOWN
from utility.billing.proof.tree import root

LEAST_ACCOUNTS = 15  # accounts of a group whose totals are given
LARGEST_PERCENT = 15  # no account has more of a total that is given

_HEAD = b"\x02"


def head_of(month: str, contents: Sequence[Json], hashes: Sequence[bytes], **stated: Json) -> Json:
    """Return the head of a month.

    Args:
        contents: The contents of all leaves, by account.
        stated: What else the head commits to, such as the run, and digests of tariffs and boundaries.
    """
    return {
        **stated,
        "month": month,
        "leaves": len(contents),
        "root": root(hashes).hex(),
        "groups": totals(contents),
    }


def check_code(head: Json) -> str:
    """Return the code that is printed on every bill of the month: SHA-256 of 0x02 and the head, in hexadecimal."""
    return hashlib.sha256(_HEAD + canonical(head)).hexdigest()


def digest(value: Json) -> str:
    """Return the SHA-256 of a value's canonical JSON, in hexadecimal, as heads commit to tariffs and boundaries."""
    return hashlib.sha256(canonical(value)).hexdigest()


def totals(contents: Sequence[Json]) -> list[Json]:
    """Return the totals of each group of accounts, from the contents of all leaves."""
    accounts = [content for content in contents if content["account"] != TOWN]
    groups = group_customers(Counter(content["customer"] for content in accounts))
    return [_totals(names, [c for c in accounts if c["customer"] in names]) for names in groups]


def group_customers(counts: Mapping[str, int]) -> list[tuple[str, ...]]:
    """Return which kinds of customers have their totals together.

    Kinds with fewer than 15 accounts form one group; if it still has fewer, it goes to the largest kind, in which
    single accounts count least.
    """
    small = [name for name in sorted(counts) if counts[name] < LEAST_ACCOUNTS]
    large = sorted((name for name in counts if name not in small), key=lambda name: (-counts[name], name))
    if not small or sum(counts[name] for name in small) >= LEAST_ACCOUNTS or not large:
        return [*((name,) for name in sorted(large)), *([tuple(small)] if small else [])]
    merged = tuple(sorted((large[0], *small)))
    return sorted([merged, *((name,) for name in large[1:])])


def _totals(names: tuple[str, ...], contents: Sequence[Json]) -> Json:
    """Return the totals of a group; those that would tell of one account are ``None``."""
    billed = [Decimal(content["bill"]["total"]) for content in contents]
    shown = None if _tells(billed) else format(sum(billed, Decimal(0)), "f")
    energies = {
        f"{name}_mwh": None if _tells(each) else sum(each)
        for name in ("imported", "exported", "shared_in", "shared_out")
        for each in [[sum(meter["sums_mwh"].get(name, 0) for meter in of["meters"]) for of in contents]]
    }
    return {"customers": list(names), "accounts": len(contents), "billed": shown, **energies}


def _tells(values: Sequence[Decimal] | Sequence[int]) -> bool:
    """Return whether a total would tell of a single account; only totals of final bills are negative."""
    return len(values) < LEAST_ACCOUNTS or 100 * max(map(abs, values)) > LARGEST_PERCENT * sum(values)
