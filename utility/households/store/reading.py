"""Reads the energy of one account: courses from readings, and sums of settled days."""

from zoneinfo import ZoneInfo

from commonwatt.model.units import Quarter
from utility.database.database import Database
from utility.exports.store.blocks import BlockSource, exported_meters
from utility.households.course import Course, course_of
from utility.households.helping import Helping, helping
from utility.households.shared import SettledSums, by_day, settled_until
from utility.households.store.home import Home
from utility.settlement.store.settled import load_settled
from utility.settlement.store.sharing import shared_by_meter


def read_course(database: Database, home: Home, first: Quarter, end: Quarter, *, shared: bool = False) -> Course:
    """Return the course of a home in the quarters ``first`` to before ``end``.

    Args:
        end: The quarter after the last.
        shared: Whether of the buildings that the account shares, in place of its own meters.
    """
    # The level at the end of the quarter before says what the battery gained in the first one.
    before = first - 1
    held = home.shared(before, end) if shared else home.held(before, end)
    meters = database.read(exported_meters, {one.meter for one in held})
    blocks = BlockSource(database, meters).read(before, end)
    return course_of(blocks, home.recordings(held), first, end)


def read_helping(database: Database, home: Home, first: Quarter, end: Quarter) -> Helping | None:
    """Return how a home helped and was helped in ``[first, end)``; ``None``: it had no battery of its own."""
    held = [one for one in home.held(first, end) if home.meters[one.meter].capacity is not None]
    if not held:
        return None
    meters = home.registry.meters
    rows = database.read(shared_by_meter, {meters[one.meter].microgrid for one in held}, range(first, end))
    return helping(rows, held)


def read_settled(
    database: Database, home: Home, first: Quarter, end: Quarter, zone: ZoneInfo
) -> tuple[list[SettledSums], Quarter | None]:
    """Return the settled sums of each local day of ``[first, end)``, and the quarter after the last settled one."""
    held = home.held(first, end)
    settled = database.read(load_settled, {one.meter for one in held}, first, end)
    return by_day(settled, held, zone), settled_until(settled, held)
