"""Who manages a microgrid since when, and why: a line for each epoch that the utility adopts."""

from collections.abc import Sequence
from dataclasses import dataclass

from commonwatt.cliques.signs import Line
from commonwatt.model.units import ControllerId, EpochSeconds, MicrogridId
from commonwatt.protocol.commands import Epoch

BEGAN, RENEWED, GRANTED, CLAIMED, RETURNED = "began", "renewed", "granted", "claimed", "returned"
HOWS = (BEGAN, RENEWED, GRANTED, CLAIMED, RETURNED)  # all of them
MOVES = (GRANTED, CLAIMED, RETURNED)  # those after which another controller manages


@dataclass(frozen=True, kw_only=True)
class Handover:
    """An epoch that the utility adopted."""

    microgrid: MicrogridId  # the microgrid
    epoch: Epoch  # the epoch
    controller: ControllerId  # who manages under it
    before: ControllerId  # who managed before; empty: no one that the utility knew
    how: str  # one of ``HOWS``
    why: str  # for people
    since: EpochSeconds = 0  # when the utility learned of it; 0: it is being stored


def why_granted(holder: ControllerId | None, line: Line | None, microgrid: MicrogridId, now: float) -> str:
    """Return why the utility grants a microgrid that ``holder`` managed so far, for people."""
    if holder is None or line is None:
        return "granted: no controller managed it"
    if not line.lost(now) and microgrid in line.unable:
        return f"granted: {holder} could not command it for {now - line.unable[microgrid]:.0f} s"
    return f"granted: {holder} gave no sign for {now - line.heard:.1f} s"


def adopted(
    microgrid: MicrogridId,
    epoch: Epoch,
    order: Sequence[ControllerId],
    by: tuple[ControllerId | None, ControllerId],
    *,
    granted_because: str | None,
    is_alive: bool,
) -> Handover:
    """Return the line of an epoch that was adopted.

    Args:
        order: Who may manage the microgrid, the first one first.
        by: Who managed it so far, and who manages it now.
        granted_because: Why the utility granted this very epoch; ``None``: it did not.
        is_alive: Whether the utility hears the controller that managed it so far.
    """
    before, new = by
    if granted_because is not None and before != new:
        how, why = GRANTED, granted_because
    elif before is None:
        how, why = BEGAN, "first start" if new == order[0] else "it managed when the utility began to watch"
    elif before == new:
        how, why = RENEWED, "under a new epoch of its own"
    elif is_alive and order.index(new) < order.index(before):
        how, why = RETURNED, f"given back by {before}"
    else:
        how, why = CLAIMED, f"claimed by itself: {before} was lost to its clique"
    return Handover(microgrid=microgrid, epoch=epoch, controller=new, before=before or "", how=how, why=why)
