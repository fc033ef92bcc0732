"""How an account's batteries helped neighbours, and were helped, by what was recorded of sharing (pure)."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from commonwatt.model.units import MicrogridId, MilliwattHours, Quarter
from utility.exports.holdings import Held
from utility.settlement.shared_quarter import Shared


@dataclass(frozen=True, kw_only=True)
class Helping:
    """Sharing of an account's batteries in some time; neighbours are counted and never named (C4)."""

    helped: int  # places whose batteries received while an own battery gave
    helping: int  # places whose batteries gave while an own battery received
    given: MilliwattHours  # what the own batteries gave
    permille: int | None  # of what all batteries of the microgrid gave; ``None``: none gave


def helping(rows: Iterable[Shared], held: Sequence[Held]) -> Helping:
    """Return how an account's batteries helped and were helped.

    Args:
        rows: What the batteries of its microgrids shared.
        held: When the account had which meter.
    """
    quarters: dict[tuple[Quarter, MicrogridId], tuple[list[Shared], list[Shared]]] = defaultdict(lambda: ([], []))
    for row in rows:
        is_own = any(one.meter == row.meter and one.first <= row.quarter < one.end for one in held)
        quarters[row.quarter, row.place[0]][is_own].append(row)
    helped, helpers = set(), set()
    for others, own in quarters.values():
        if any(row.given for row in own):
            helped |= {row.place for row in others if row.received}
        if any(row.received for row in own):
            helpers |= {row.place for row in others if row.given}
    given = sum(row.given for _, own in quarters.values() for row in own)
    every = given + sum(row.given for others, _ in quarters.values() for row in others)
    permille = 1000 * given // every if every else None
    return Helping(helped=len(helped), helping=len(helpers), given=given, permille=permille)
