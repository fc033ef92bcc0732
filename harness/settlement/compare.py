"""Compares settlement with the plain implementation."""

import numpy as np

from commonwatt.settlement.overlay import applied, no_overlay
from commonwatt.settlement.settled import QUARTERS_A_DAY, Quantity
from harness.settlement.plain import settle_plainly
from harness.settlement.random_days import DAY, MICROGRID, RandomDay, random_day
from harness.settlement.whole_day import settle_day
from utility.registry.layout import layout_of
from utility.settlement.day import Rules, SettledDay


def settled(day: RandomDay, convention: str) -> SettledDay:
    """Settle a random day as the utility does."""
    return settle_day(
        DAY,
        [layout_of(MICROGRID, day.meters, DAY)],
        lambda quarter: applied(day.blocks(quarter), no_overlay()),
        Rules(convention=convention, battery_loss_permille=day.loss_permille),
        day.sharing,
    )


def differences(seed: int, convention: str, quarters: int = QUARTERS_A_DAY) -> list[str]:
    """Return in what the two implementations differ on a random microgrid-day."""
    day = random_day(seed, quarters)
    found, plain = settled(day, convention), settle_plainly(day, convention, quarters)
    wrong = []
    for row, meter in enumerate(found.meters.tolist()):
        for quarter in range(quarters):
            for quantity in Quantity:
                one, other = int(found.energies[quantity][row, quarter]), plain.energies[quantity, meter, quarter]
                if one != other:
                    wrong.append(f"{quantity.name} of meter {meter}, quarter {quarter}: {one}, plainly {other}")
            quality = plain.quality.get((meter, quarter))
            if quality is not None and quality != found.quality[row, quarter]:
                wrong.append(f"quality of meter {meter}, quarter {quarter}: {found.quality[row, quarter]}, {quality!r}")
    if any(np.any(energies[:, quarters:]) for energies in found.energies.values()):
        wrong.append("energy without readings")
    excess = found.residuals[MICROGRID].excess
    if excess != plain.excess:
        wrong.append(f"excess of the residual: {excess}, plainly {plain.excess}")
    return wrong
