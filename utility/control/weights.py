"""Which weights of sharing to send to a controller, by the registry's dates (pure).

A gateway keeps the weights in force and the next ones; weights from a time on drop all that begin then or later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from commonwatt.model.ids import MeterId
from commonwatt.model.units import AccountNumber, Quarter
from commonwatt.town.town import Direction
from utility.registry.accounts import Account, Installed, value_at

AHEAD = 2 * 96
"""Quarters before their begin from which weights are sent: a controller that is offline for a day has them in time."""

Weights = Mapping[MeterId, int]


@dataclass(frozen=True, kw_only=True)
class Weighting:
    """Weights from a quarter on; a battery that is not named has 1."""

    since: Quarter
    weights: Weights


def weightings(
    members: Sequence[Installed], accounts: Mapping[AccountNumber, Account], now: Quarter
) -> list[Weighting]:
    """Return the weights of a microgrid's batteries: those in force now, then each change of them to come.

    Args:
        members: Its meters.
        accounts: The accounts, by number.
    """
    # A battery gives through the meter that counts what leaves its place.
    batteries = [m for m in members if m.capacity is not None and m.direction is Direction.OUTGOING]
    found: list[Weighting] = []
    for quarter in (now, *sorted(quarter for quarter in _dates(batteries, accounts) if quarter > now)):
        weights = _weights_at(batteries, accounts, quarter)
        if not found or found[-1].weights != weights:
            found.append(Weighting(since=quarter, weights=weights))
    return found


def _dates(batteries: Sequence[Installed], accounts: Mapping[AccountNumber, Account]) -> set[Quarter]:
    """Return the quarters at which a weight may change: by its date, by a new holder, by an exchange of the meter."""
    dates = {quarter for meter in batteries for quarter in (meter.start, meter.end) if quarter is not None}
    for meter in batteries:
        for held in meter.holdings:
            dates |= {held.start} | ({held.end} if held.end is not None else set())
            account = accounts.get(held.account)
            dates |= set() if account is None else {dated.start for dated in account.weights}
    return dates


def _weights_at(
    batteries: Sequence[Installed], accounts: Mapping[AccountNumber, Account], quarter: Quarter
) -> dict[MeterId, int]:
    weights = {}
    for meter in batteries:
        is_there = (meter.start or 0) <= quarter and (meter.end is None or quarter < meter.end)
        account = accounts.get(meter.account_at(quarter) or 0) if is_there else None
        weight = None if account is None else value_at(account.weights, quarter)
        if weight is not None:
            weights[meter.id] = int(weight)
    return weights


def to_tell(told: Sequence[Weighting], wanted: Sequence[Weighting], now: Quarter) -> Weighting | None:
    """Return the weights to send to a controller next; ``None``: it has all.

    Args:
        told: What it was sent, in order of time; nothing: it has those of its settings file.
        wanted: What it should have (``weightings``).
    """
    present, *later = wanted
    begun = [one for one in told if one.since <= now]
    in_force = begun[-1].weights if begun else {}
    waiting = next((one for one in told if one.since > now), None)
    coming = next((one for one in later if one.since <= now + AHEAD), None)
    if in_force != present.weights:
        return Weighting(since=now, weights=present.weights)
    if waiting == coming:
        return None
    # What waits is not wanted any more. Weights from now on drop it, as the coming ones do if they begin earlier.
    if coming is None or (waiting is not None and waiting.since < coming.since):
        return Weighting(since=now, weights=present.weights)
    return coming
