"""How an account's batteries helped neighbours, and were helped, by what was recorded of sharing, and now (pure)."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from commonwatt.model.ids import MeterId
from commonwatt.model.units import EpochSeconds, MicrogridId, MilliwattHours, Quarter
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.sharing_words import reason_of_code
from utility.exports.holdings import Held
from utility.lasting.rules import OLD_S
from utility.settlement.shared_quarter import Shared


@dataclass(frozen=True, kw_only=True)
class Helping:
    """Sharing of an account's batteries in some time; neighbours are counted and never named (C4)."""

    helped: int  # places whose batteries received while an own battery gave
    helping: int  # places whose batteries gave while an own battery received
    given: MilliwattHours  # what the own batteries gave
    permille: int | None  # of what all batteries of the microgrid gave; ``None``: none gave


def helped_now(heartbeat: Heartbeat | None, meter: MeterId, now: EpochSeconds) -> str:
    """Return who helps a battery below its minimum, a sentence, by what its gateway said last."""
    if heartbeat is None or now - heartbeat.time > OLD_S or meter not in heartbeat.sharing:
        return "Its gateway does not say now who helps it."
    reason = reason_of_code(heartbeat.sharing[meter], heartbeat.band_permille)
    helpers = sum(reason_of_code(each, 0).role == "gives" for each in heartbeat.sharing.values())
    if reason.role != "receives" or not helpers:
        return reason.why
    return f"{helpers} of the neighbours' batteries help it." if helpers > 1 else "A neighbour's battery helps it."


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
