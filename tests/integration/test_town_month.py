"""A day of a small town from the physics to issued bills, through the installed commands."""

from pathlib import Path

from commonwatt.model.units import QUARTER_S, SLOT_S
from harness.commands import WHO, shown
from harness.settlement.emulated import small_town
from harness.town_month.month import Asked, make
from utility.energy.quarters import QUARTERS_A_DAY, Quantity


def test_a_scenario_ends_in_issued_bills_of_what_flowed(tmp_path: Path) -> None:  # req: U2
    town = small_town()
    made = make(
        Asked(town=town, scenario="normal", month="2026-10", days=1, folder=tmp_path), lambda _what, _part: None
    )
    assert made.run["state"] == "issued"
    assert made.run["figures"]["bills"] == town.accounts
    assert made.run["figures"]["missing"] == 0
    # A building's and the farm's intake is derived from rounded levels, in each slot.
    unmetered = 3
    slots = QUARTERS_A_DAY * QUARTER_S // SLOT_S
    for quantity in (Quantity.IMPORTED, Quantity.EXPORTED):
        assert abs(made.settled[quantity] - made.flowed[quantity]) <= 100 * (unmetered * slots + len(town.meters))
    assert made.flowed[Quantity.IMPORTED] > 10**6
    assert shown(tmp_path / "utility.toml", "runs/1/bills/1", WHO, "anna")["account"] == 1
