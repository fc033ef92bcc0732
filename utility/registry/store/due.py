"""What is due after a change of the registry: days that were settled, taken in or counted with other meters before."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from sqlalchemy import Connection

from commonwatt.model.units import MicrogridId, Quarter
from commonwatt.settlement.settled import QUARTERS_A_DAY
from utility.jobs.reasons import Why
from utility.jobs.store.due import mark_from
from utility.jobs.tables import complete_day, settled_day, settlement_due, usage_due
from utility.registry.accounts import DatedRegistry, Holding, Installed
from utility.registry.layout import Day
from utility.registry.store.registry import controller_numbers


def mark_changed(connection: Connection, before: DatedRegistry, after: DatedRegistry) -> None:
    """Mark the days in which a meter is at another place, came or went at another time, or has another account."""
    numbers = controller_numbers(connection)
    places, holdings = changed_places(numbers, before, after), _changed_holdings(numbers, before, after)
    mark_from(connection, settlement_due, settled_day, places, Why.REGISTRY)
    mark_from(connection, complete_day, complete_day, places)
    mark_from(connection, usage_due, settled_day, holdings)


def changed_places(numbers: Mapping[MicrogridId, int], before: DatedRegistry, after: DatedRegistry) -> dict[int, Day]:
    """Return the first day on which a meter's place, or its being there, may be another, by microgrid's number."""
    found: dict[int, Day] = {}
    for meter_id, now in after.meters.items():
        was = before.meters.get(meter_id)
        if was is None or replace(was, holdings=()) == replace(now, holdings=()):
            continue
        owner, day = numbers[now.microgrid], _changed_from(was, now) // QUARTERS_A_DAY
        found[owner] = min(day, found.get(owner, day))
    return found


def _changed_from(was: Installed, now: Installed) -> Quarter:
    """Return the first quarter in which a meter's place, or its being there, may be another than before."""
    if replace(was, end=now.end, last_register=now.last_register, holdings=now.holdings) == now:
        return min((end for end in (was.end, now.end) if end is not None), default=0)
    # Another begin or place: all the time that it was or is there.
    return min(was.start or 0, now.start or 0)


def _changed_holdings(
    numbers: Mapping[MicrogridId, int], before: DatedRegistry, after: DatedRegistry
) -> dict[int, Day]:
    """Return the first day from which on a meter's account is another one than before, by microgrid's number."""
    found: dict[int, Day] = {}
    for meter_id, now in after.meters.items():
        was = before.meters.get(meter_id)
        if was is not None and was.holdings != now.holdings:
            owner, day = numbers[now.microgrid], min(_dates(was.holdings) ^ _dates(now.holdings))[0] // QUARTERS_A_DAY
            found[owner] = min(day, found.get(owner, day))
    return found


def _dates(holdings: Iterable[Holding]) -> set[tuple[int, int, str]]:
    """Return what begins and ends when."""
    begins = {(held.start, held.account, "begins") for held in holdings}
    return begins | {(held.end, held.account, "ends") for held in holdings if held.end is not None}
