"""The hand-computed month of docs/billing.md: one house, one building, the farm; and its table of settings (U2)."""

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.settlement.settled import Quantity
from commonwatt.town.town import Direction, Function
from harness.billing.worlds import ZONE, World, exact_world
from utility.billing.bill import Bill
from utility.billing.inputs import RunInputs
from utility.billing.run import bills_of
from utility.registry.accounts import DatedRegistry, Holding, Installed
from utility.tariffs.policy_settings import AcesSettings, RangersSettings, SpecSettings
from utility.tariffs.tariff import read_tariff

DOCS = Path(__file__).parents[4] / "docs"
PAGE = (DOCS / "billing.md").read_text(encoding="utf-8")
KWH = 10**6


def quarter(day: int, hour: int) -> int:
    return int(datetime(2026, 11, day, hour, tzinfo=ZoneInfo(ZONE)).timestamp()) // 900


NOON, EVENING, SIXTEENTH = quarter(2, 12), quarter(2, 17), quarter(16, 0)

ENERGIES = {
    1: [(Quantity.IMPORTED, EVENING, 100 * KWH), (Quantity.IMPORTED, NOON, 300 * KWH),
        (Quantity.SHARED_IN, NOON, 20 * KWH)],
    2: [(Quantity.EXPORTED, EVENING, 10 * KWH), (Quantity.EXPORTED, NOON, 50 * KWH)],
    3: [(Quantity.IMPORTED, NOON, 120 * KWH)],
    6: [(Quantity.EXPORTED, NOON, 90 * KWH + 1)],
    7: [(Quantity.IMPORTED, NOON, 500 * KWH)],
    8: [(Quantity.IMPORTED, NOON, 200 * KWH)],
    9: [(Quantity.IMPORTED, NOON, 200 * KWH)],
    10: [(Quantity.EXPORTED, NOON, 100 * KWH)],
}  # fmt: skip
"""Milliwatt-hours by meter."""

_IN, _OUT = Direction.INCOMING, Direction.OUTGOING

METERS: list[tuple[str, str, Function, Direction, int | None, int]] = [
    ("r001", "house", Function.HOUSE, _IN, 1, 0),
    ("r001", "house", Function.HOUSE, _OUT, 1, 0),
    ("apt", "apartment 1", Function.APARTMENT, _IN, 2, 0),
    ("apt", "apartment 2", Function.APARTMENT, _IN, None, 0),
    ("apt", "apartment 3", Function.APARTMENT, _IN, 3, SIXTEENTH),
    ("apt", "building", Function.BUILDING, _OUT, None, 0),
    ("public", "hospital", Function.HOSPITAL, _IN, 4, 0),
    ("public", "police", Function.POLICE, _IN, 5, 0),
    ("public", "fire", Function.FIRE, _IN, 6, 0),
    ("public", "farm", Function.SOLAR_FARM, _OUT, None, 0),
]
"""Microgrid, place, function, direction, account, its first quarter."""


def world() -> World:
    meters = {
        number: Installed(
            id=number,
            microgrid=microgrid,
            place=place,
            building="building" if function is Function.APARTMENT else None,
            function=function,
            direction=direction,
            holdings=() if account is None else (Holding(account=account, start=start),),
        )
        for number, (microgrid, place, function, direction, account, start) in enumerate(METERS, 1)
    }
    inputs = RunInputs(
        month="2026-11",
        timezone=ZONE,
        registry=DatedRegistry(revision=1, meters=meters),
        tariffs=(replace(read_tariff(DOCS / "examples/tariff.toml"), version=1),),
        default="town",
    )
    shape = len(meters), inputs.length
    energies = {quantity: np.zeros(shape, np.int64) for quantity in Quantity}
    for meter, flows in ENERGIES.items():
        for quantity, when, energy in flows:
            energies[quantity][meter - 1, when - inputs.first] = energy
    return exact_world(inputs, energies)


def by_hand() -> list[list[list[str]]]:
    """The tables of bills on the page, as rows of cells."""
    tables = PAGE.split("## Three bills by hand")[1].split("| line | kWh | rate | dollars |\n|---|---|---|---|\n")[1:]
    return [
        [[cell.strip() for cell in row.strip("|").split("|")] for row in table.split("\n\n")[0].splitlines()]
        for table in tables
    ]


def rows_of(bill: Bill) -> list[list[str]]:
    rows = [
        [
            line.text,
            "" if line.energy is None else f"{line.energy / KWH:.6f}",
            str(line.rate or ""),
            str(line.amount),
        ]
        for line in bill.lines
    ]
    return [*rows, ["total", "", "", str(bill.total)]]


def test_bills_are_those_computed_by_hand() -> None:  # req: U2
    found = bills_of(world().inputs, world().load)
    bills = {number: rows_of(each.bill) for number, each in found.billed.items()}
    assert by_hand() == [bills[1], bills[2], bills[3], bills[4], bills[5]]
    assert bills[6] == bills[5]
    assert found.sums.kept == 60 * KWH + 1, "of the vacant apartment, and of the one that was vacant then"
    assert NOON % 3 == 2
    assert f"number {NOON:,}" in " ".join(PAGE.split())


def test_page_names_every_setting_of_a_policy_with_its_default() -> None:
    table = re.findall(r"^\| `(\w+)` \| ([^|]+) \| `?(\w+)[^|]*\|", PAGE, re.MULTILINE)
    stated = {(name, policy): default for name, policies, default in table for policy in _policies(policies)}
    for model, policy in ((SpecSettings, "spec"), (AcesSettings, "aces"), (RangersSettings, "rangers")):
        for name, field in model.model_fields.items():
            if name != "name":
                assert stated[name, policy] == ("none" if field.is_required() else field.default), (name, policy)


def _policies(text: str) -> list[str]:
    return ["spec", "aces", "rangers"] if text == "all" else re.findall(r"`(\w+)`", text)
