"""The receipt of a bill: one JSON file with everything that anybody needs to check it (docs/billing.md)."""

import json
from collections.abc import Collection, Sequence

from commonwatt.model.exceptions import StoreError
from commonwatt.model.units import AccountNumber
from utility.billing.bill import Bill
from utility.billing.inputs import Load, RunInputs
from utility.billing.proof import (
    QUANTITIES,
    Json,
    Leaf,
    MeterQuarters,
    content_of,
    customer_of,
    leaf_hash,
    path_of,
    quarters_of,
    salts,
)
from utility.billing.run import complete
from utility.billing.stored_run import Tree

FORM = "commonwatt receipt 1"  # the name of the file's form


def quarters_of_accounts(
    inputs: RunInputs, numbers: Collection[AccountNumber], load: Load
) -> dict[AccountNumber, list[MeterQuarters]]:
    """Return the settled quarter-hours of some accounts' meters in the month of a run, as their leaves have them."""
    meters = sorted(
        meter.id
        for meter in inputs.registry.meters.values()
        if any(account in numbers for account, _, _ in meter.held(inputs.first, inputs.until))
    )
    found: dict[AccountNumber, list[MeterQuarters]] = {number: [] for number in numbers}
    if meters:
        settled = complete(load(meters, inputs.first, inputs.until), meters, inputs)
        for account, quarters in quarters_of(inputs, settled):
            if account in found:
                found[account].append(quarters)
    return found


def proved_leaf(tree: Tree, customer: str, bill: Bill, quarters: Sequence[MeterQuarters]) -> tuple[Leaf, int]:
    """Return the leaf of a bill with the kind of its place and its quarter-hours, and its place in the tree.

    A place of -1: it is not a leaf of the tree.
    """
    content = content_of(bill.account, customer, bill, [each.stated() for each in quarters])
    salt = salts(tree.secret, [bill.account])[bill.account]
    leaf = Leaf(account=bill.account, content=content, salt=salt)
    made = leaf_hash(salt, leaf.canonical())
    return leaf, tree.hashes.index(made) if made in tree.hashes else -1


def receipt_of(inputs: RunInputs, tree: Tree, bill: Bill, quarters: Sequence[MeterQuarters]) -> Json:
    """Return the receipt of a bill, by its run's inputs and tree, and the quarter-hours of the account's meters."""
    leaf, place = proved_leaf(tree, customer_of(inputs.registry, bill.account), bill, quarters)
    if place < 0:
        raise StoreError(
            f"account {bill.account}, {bill.month}: bill and settled quarter-hours are not those that the run was "
            "made of; check the run again"
        )
    segments = inputs.segments(bill.account)
    base = inputs.bases.get(bill.account) if bill.policy == "aces" else None
    return {
        "form": FORM,
        "timezone": inputs.timezone,
        "first": inputs.first,
        "until": inputs.until,
        "base_before": None if base is None else str(base),
        "segments": [[each.tariff.label, each.start, each.end] for each in segments],
        "tariffs": {each.tariff.label: json.loads(each.tariff.canonical()) for each in segments},
        "meters": [_meter(each) for each in sorted(quarters, key=lambda each: (each.meter, each.first))],
        "leaf": leaf.content,
        "salt": leaf.salt.hex(),
        "proof": {"index": place, "path": [each.hex() for each in path_of(tree.hashes, place)]},
        "head": tree.head,
    }


def _meter(quarters: MeterQuarters) -> Json:
    energies = {
        name: quarters.energies[quantity].tolist()
        for name, quantity in QUANTITIES.items()
        if quantity in quarters.energies
    }
    return {
        "meter": str(quarters.meter),
        "first": quarters.first,
        "energies_mwh": energies,
        "quality": quarters.quality.tolist(),
    }
