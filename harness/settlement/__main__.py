"""``python -m harness.settlement``: settlement beside a plain implementation, what flowed, and honest meters.

--days N            N random microgrid-days, both conventions, beside the plain implementation (default 1000)
--truth QUARTERS    every scenario, slot by slot, beside what flowed in the emulator, at resolutions of 1 and 100 mWh
--residual DAYS     every scenario: the residual of honest meters stays within its bound
"""

import argparse
import sys

from commonwatt.town.scenario import names
from harness.settlement.compare import days, differences, wrong_slots
from harness.settlement.emulated import EmulatedTown, small_town
from utility.energy.sharing import CONVENTIONS
from utility.settlement.day import SettlementRules

LOSS_PERMILLE = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first day")
    parser.add_argument("--quarters", type=int, default=96, help="of each random day with readings")
    parser.add_argument("--truth", type=int, metavar="QUARTERS")
    parser.add_argument("--residual", type=int, metavar="DAYS")
    given = parser.parse_args()
    if given.truth:
        _truth(given.truth)
    elif given.residual:
        _residual(given.residual)
    else:
        _random(given.seed, given.days, given.quarters)


def _random(seed: int, count: int, quarters: int) -> None:
    for one in range(seed, seed + count):
        for convention in CONVENTIONS:
            if wrong := differences(one, convention, quarters):
                sys.exit(f"seed {one}, {convention}: {len(wrong)} differences, the first: {wrong[0]}")
        if one % 10 == 9:
            print(f"\r{one + 1 - seed} of {count} days", end="", file=sys.stderr, flush=True)
    print(f"\r{count} microgrid-days, {len(CONVENTIONS)} conventions: no difference")


def _truth(quarters: int) -> None:
    for scenario in names():
        for loss, resolution in ((0, 1), (LOSS_PERMILLE, 1), (LOSS_PERMILLE, 100)):
            town = EmulatedTown(small_town(loss), scenario, resolution=resolution)
            wrong, inside = wrong_slots(
                town, SettlementRules(resolution=resolution, battery_loss_permille=loss), quarters
            )
            if wrong:
                sys.exit(f"{scenario}, loss {loss}, resolution {resolution}: {len(wrong)} slots, the first: {wrong[0]}")
            print(f"{scenario}, loss {loss}, resolution {resolution}: {inside / 1e6:.3f} kWh inside, no slot beyond it")


def _residual(count: int) -> None:
    for scenario in names():
        town = EmulatedTown(small_town(LOSS_PERMILLE), scenario)
        found = list(days(town, SettlementRules(battery_loss_permille=LOSS_PERMILLE), count))[-1]
        for name, one in found.items():
            if one.excess > 0:
                sys.exit(f"{scenario}: {name} is beyond its bound by {one.excess} mWh")
        worst = max(one.excess for one in found.values())
        print(f"{scenario}, {count} days: within the bound, by {-worst} mWh at least")


if __name__ == "__main__":
    main()
