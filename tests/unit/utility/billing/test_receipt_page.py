"""The page on bills describes each field of a receipt (U2)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.billing.worlds import World, random_world
from tests.unit.utility.billing.test_check_bill import receipts
from tests.unit.utility.billing.test_taxes import LEVY, VAT, taxed

PAGE = Path(__file__).parents[4] / "docs/billing.md"


def of_kind(world: World, seed: int) -> World:
    """Return a world, every other one with taxes and a base by days."""
    both: list[dict[str, Any]] = [
        LEVY,
        VAT,
        {"name": "city", "percent": "3.5", "on": ["import", "VAT"], "credit": "taxed"},
    ]
    return taxed(world, both, "by_day") if seed % 2 else world


def names_of(value: object, above: str = "") -> Iterator[str]:
    """Yield the names of all fields of a receipt; what is named by data has none: tariffs by their labels."""
    if isinstance(value, dict):
        for name, each in value.items():
            if above != "tariffs":
                yield name
            yield from names_of(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from names_of(each, above)


def test_every_field_of_a_receipt_is_on_the_page() -> None:
    section = PAGE.read_text(encoding="utf-8").split("## The receipt's fields")[1]
    described = set(re.findall(r"`([a-z_0-9]+)`", section))
    for seed in range(8):
        for receipt in receipts(of_kind(random_world(seed), seed)).values():
            assert set(names_of(receipt)) <= described
