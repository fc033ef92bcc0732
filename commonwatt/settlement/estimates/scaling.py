"""Exact scaling of estimates, in whole milliwatt-hours: to a known sum, and so that a microgrid closes."""

import numpy as np

from commonwatt.model.units import SLOTS, MilliwattHours
from commonwatt.settlement.estimates import Energies
from commonwatt.settlement.splits import pro_rata, row_sums

_MAX_WEIGHTS = 2**30  # the sum of weights that ``pro_rata`` takes, with a margin


def summing_to(total: MilliwattHours, shape: Energies) -> Energies:
    """Return energies that sum exactly to ``total``, in proportion to a shape; evenly if the shape is all 0.

    Args:
        total: Not negative.
        shape: Not negative, (n), n at least 1.
    """
    return np.asarray(_divided(np.array([total], np.int64), shape[None])[0])


def spread(quarters: Energies) -> Energies:
    """Return the energy of each slot of quarters with these energies, evenly, (..., quarters * 60)."""
    steps = np.arange(SLOTS + 1)
    # As quarters * steps // SLOTS, without odd milliwatt-hours at one end.
    slots = np.diff(quarters[..., None] * steps // SLOTS, axis=-1)
    return slots.reshape(*quarters.shape[:-1], -1)


def closing(target: Energies, incoming: Energies, outgoing: Energies) -> tuple[Energies, Energies]:
    """Scale estimates so that in each slot those of incoming meters minus those of outgoing ones are ``target``.

    Incoming ones are multiplied by a factor, outgoing ones are divided by it: neither direction is changed more.
    Estimates of a direction that are all 0 are raised evenly if they must be.

    Args:
        target: (slots).
        incoming: Estimates, not negative, (slots, incoming meters).
        outgoing: The same, (slots, outgoing meters).

    Returns:
        Both, scaled. Where a direction that has to be raised has no meter, its slots are unchanged in both.
    """
    taken, given = row_sums(incoming), row_sums(outgoing)
    root = np.sqrt(target.astype(np.float64) ** 2 + 4.0 * taken * given)
    wanted_in = np.where((taken > 0) & (given > 0), np.rint((target + root) / 2), np.maximum(target, 0)).astype(
        np.int64
    )
    wanted_in = np.maximum(wanted_in, np.maximum(target, 0))
    wanted_out = wanted_in - target
    possible = ((wanted_in == 0) | (incoming.shape[1] > 0)) & ((wanted_out == 0) | (outgoing.shape[1] > 0))
    return (
        np.where(possible[:, None], _divided(wanted_in, incoming), incoming),
        np.where(possible[:, None], _divided(wanted_out, outgoing), outgoing),
    )


def _divided(total: Energies, shape: Energies) -> Energies:
    """Divide each row's total in proportion to the shape, evenly where that is all 0."""
    if not shape.shape[1]:
        return shape.copy()
    sums = row_sums(shape)
    # A shape may be coarser than its sum: only its proportions count.
    excess = max(0, int(sums.max(initial=0)).bit_length() - _MAX_WEIGHTS.bit_length() + 1)
    weights = shape >> excess
    weights = np.where(row_sums(weights)[:, None] == 0, 1, weights)
    return pro_rata(total, weights, np.broadcast_to(total[:, None], shape.shape).copy())
