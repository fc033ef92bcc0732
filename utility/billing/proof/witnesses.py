"""Which witnesses a receipt carries, and the town's public list of their keys (pure; docs/billing.md)."""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from commonwatt.model.units import ControllerId, MicrogridId
from utility.billing.proof.canonical import Json

OTHERS = 2  # signatures of other streets in a receipt
FORM = "commonwatt witnesses 1"  # the name of the public list's form


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A controller's signature of a month's check code."""

    controller: ControllerId  # the controller
    month: str  # the month
    signed: str  # its public key and the signature, as in ``ControllerOutcome.signed``


def chosen(signed: Iterable[Signed], code: str, streets: Collection[MicrogridId]) -> list[Json]:
    """Return the signatures for a receipt: of its streets, and of others that the code chooses, not the utility."""
    drawn = sorted(signed, key=lambda each: hashlib.sha256(f"{code}{each.controller}".encode()).digest())
    own = [each for each in drawn if each.controller in streets]
    others = [each for each in drawn if each.controller not in streets]
    return [{"controller": each.controller, "signed": each.signed} for each in (*own, *others[:OTHERS])]


def public_list(signed: Sequence[Signed], revoked: Collection[ControllerId]) -> Json:
    """Return the public list of keys with their first and last months; those of revoked controllers count no more."""
    months: dict[tuple[ControllerId, str], list[str]] = {}
    for each in signed:
        months.setdefault((each.controller, each.signed[:64]), []).append(each.month)
    keys = [
        {"controller": name, "key": key, "first": min(of), "last": max(of), "revoked": name in revoked}
        for (name, key), of in sorted(months.items())
    ]
    return {"form": FORM, "keys": keys}
