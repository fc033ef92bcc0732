"""Search: microgrids, accounts, meters and places by a few characters."""

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, and_, case, func, or_, select

from commonwatt.model.units import EpochSeconds, quarter_of
from utility.registry.tables import controller, holding, meter

MOST_FOUND = 60  # results at most, of each kind together
_MOST_OTHERS = 8  # microgrids, and accounts, at most


@dataclass(frozen=True, kw_only=True)
class Found:
    """A result of the search."""

    kind: Literal["microgrid", "account", "meter"]  # what was found
    name: str  # the microgrid's name, or the meter's id; of an account, the id of a meter that it has
    text: str  # the result, for people


def find(connection: Connection, text: str, now: EpochSeconds) -> list[Found]:
    """Return what a text may mean, the likeliest first: a name, a number, the beginning of one, or part of a place.

    The number of a controller finds its microgrid and all its meters, whose ids begin with it in a counted town.
    """
    wanted = text.strip().lower()[:40]
    if not wanted:
        return []
    found = [*_microgrids(connection, wanted), *_accounts(connection, wanted, now)]
    return [*found, *_meters(connection, wanted, MOST_FOUND - len(found))]


def _microgrids(connection: Connection, wanted: str) -> list[Found]:
    name, number = func.lower(controller.c.id), int(wanted) if wanted.isdecimal() and len(wanted) < 6 else -1
    begins, has = name.startswith(wanted, autoescape=True), name.contains(wanted, autoescape=True)
    rank = case((name == wanted, 0), (controller.c.number == number, 1), (begins, 2), else_=3)
    statement = select(controller.c.id, controller.c.kind).where(has | (controller.c.number == number))
    rows = connection.execute(statement.order_by(rank, controller.c.number).limit(_MOST_OTHERS))
    return [Found(kind="microgrid", name=row.id, text=f"{row.id}, {row.kind}") for row in rows]


def _accounts(connection: Connection, wanted: str, now: EpochSeconds) -> list[Found]:
    number = wanted.removeprefix("account").strip()
    if not number.isdecimal() or len(number) > 5:
        return []
    quarter, c = quarter_of(now), holding.c
    holds = (c.account == int(number)) & (c.since <= quarter) & (c.until.is_(None) | (c.until > quarter))
    statement = select(meter.c.label, meter.c.microgrid, meter.c.location).join(holding, c.meter == meter.c.id)
    rows = connection.execute(statement.where(holds).order_by(meter.c.no).limit(_MOST_OTHERS))
    return [
        Found(kind="account", name=row.label, text=f"account {number}: {row.location} in {row.microgrid}, {row.label}")
        for row in rows
    ]


def _meters(connection: Connection, wanted: str, limit: int) -> list[Found]:
    c = meter.c
    match: Any = c.label == wanted
    rank = [(c.label == wanted, 0)]
    if wanted.isdecimal():
        begins, ends = c.label.startswith(wanted), c.label.endswith(wanted)
        match = match | begins | ends
        # Ids of a counted town: the controller's number, and four digits.
        rank += [(c.label.like(f"{wanted}____"), 1), (begins, 2), (ends, 3)]
    else:
        place, here = func.lower(c.location), func.lower(c.microgrid + " " + c.location)
        begins = or_(*(text.startswith(wanted, autoescape=True) for text in (place, here)))
        rank += [((place == wanted) | (here == wanted), 1), (begins, 2)]
        where = func.lower(c.microgrid + " " + c.location + " " + c.label)
        match = and_(*(where.contains(word, autoescape=True) for word in wanted.split()))
    statement = select(c.label, c.microgrid, c.location, c.direction, c.function).where(match)
    rows = connection.execute(statement.order_by(case(*rank, else_=9), c.no).limit(limit))
    return [
        Found(kind="meter", name=row.label, text=f"{row.label}: {row.location} in {row.microgrid}, {row.direction}")
        for row in rows
    ]
