"""The registry's dates: loading, changes with their audit, what a town file adds, and days due afterwards (T8)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Connection, Row, Table, select, true

from commonwatt.model.text import counted
from commonwatt.model.units import (
    AccountNumber,
    EpochSeconds,
    MeterId,
    MicrogridId,
    Quarter,
    quarter_of,
    signed64,
    unsigned64,
)
from commonwatt.town.town import Direction, Function, Meter, Town
from utility.database.checks import row_crc, sound_rows
from utility.database.engines import Lock, take
from utility.database.town_zone import zone_of
from utility.energy.quarters import QUARTERS_A_DAY
from utility.jobs.plans import Why
from utility.jobs.store import mark_from
from utility.jobs.tables import complete_day, settled_day, settlement_due, usage_due
from utility.registry.accounts import Account, Dated, DatedRegistry, Holding, Installed, functions_of
from utility.registry.changes import differences
from utility.registry.layout import Day
from utility.registry.store.registry import controller_numbers, load_holdings, registry_changed, registry_revision
from utility.registry.tables import account, account_term, holding, installed, meter, registry_change


def mark_changed(connection: Connection, before: DatedRegistry, after: DatedRegistry) -> None:
    """Mark the days in which a meter is at another place, came or went at another time, or has another account."""
    numbers = controller_numbers(connection)
    places, holdings = changed_places(numbers, before, after), _changed_holdings(numbers, before, after)
    mark_from(connection, settlement_due, settled_day, places, Why.REGISTRY)
    mark_from(connection, complete_day, complete_day, places)
    mark_from(connection, usage_due, settled_day, holdings)


def changed_places(numbers: Mapping[MicrogridId, int], before: DatedRegistry, after: DatedRegistry) -> dict[int, Day]:
    """Return the first day on which a meter's place, or its being there, may be another, by microgrid's number."""
    days: dict[int, Day] = {}
    for meter_id, now in after.meters.items():
        was = before.meters.get(meter_id)
        if was is None or replace(was, holdings=()) == replace(now, holdings=()):
            continue
        owner, day = numbers[now.microgrid], _changed_from(was, now) // QUARTERS_A_DAY
        days[owner] = min(day, days.get(owner, day))
    return days


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
    days: dict[int, Day] = {}
    for meter_id, now in after.meters.items():
        was = before.meters.get(meter_id)
        if was is not None and was.holdings != now.holdings:
            owner, day = numbers[now.microgrid], min(_dates(was.holdings) ^ _dates(now.holdings))[0] // QUARTERS_A_DAY
            days[owner] = min(day, days.get(owner, day))
    return days


def _dates(holdings: Iterable[Holding]) -> set[tuple[int, int, str]]:
    """Return what begins and ends when."""
    begins = {(held.start, held.account, "begins") for held in holdings}
    return begins | {(held.end, held.account, "ends") for held in holdings if held.end is not None}


TOWN_FILE = "town file"  # the person of a change that a registration made


def load_dated_registry(connection: Connection) -> DatedRegistry:
    """Read the registry with its dates.

    Raises:
        DamagedError: A row is damaged.
    """
    return _registry(connection, true())


def load_registry_around(connection: Connection, number: AccountNumber) -> DatedRegistry:
    """Read an account, and the microgrids in which it has or had a meter, whole, with the accounts of their meters.

    The registry of a town is ten thousand times larger. Without such an account, the result has none of its number.

    Raises:
        DamagedError: A row is damaged.
    """
    its = select(meter.c.microgrid).join(holding, holding.c.meter == meter.c.id).where(holding.c.account == number)
    return _registry(connection, meter.c.microgrid.in_(its), number)


def load_microgrids(connection: Connection, microgrids: Collection[MicrogridId]) -> DatedRegistry:
    """Read the meters of a few microgrids, and the accounts that have or had them.

    Raises:
        DamagedError: A row is damaged.
    """
    return _registry(connection, meter.c.microgrid.in_(sorted(microgrids)), number=0)


def load_batteries(connection: Connection, microgrids: Collection[MicrogridId]) -> DatedRegistry:
    """Read the meters with a battery of some microgrids, and the accounts that have or had them.

    Raises:
        DamagedError: A row is damaged.
    """
    which = meter.c.microgrid.in_(sorted(microgrids)) & meter.c.battery_capacity.is_not(None)
    return _registry(connection, which, number=0)


def _registry(connection: Connection, which: ColumnElement[bool], number: AccountNumber | None = None) -> DatedRegistry:
    """Read the meters that fulfil a condition, and their accounts with an account; ``None``: all accounts."""
    ids = None if number is None else select(meter.c.id).where(which)
    holdings = load_holdings(connection, None if ids is None else holding.c.meter.in_(ids))
    its_places = None if ids is None else installed.c.meter.in_(ids)
    places = {row.meter: row for row in sound_rows(connection, installed, its_places)}
    meters = {
        unsigned64(row.id): _installed(row, places[row.id], holdings.get(row.id, ()))
        for row in connection.execute(select(meter).where(which))
        if row.id in places
    }
    numbers = None if number is None else {number, *(h.account for held in holdings.values() for h in held)}
    return DatedRegistry(
        revision=registry_revision(connection),
        meters=meters,
        accounts=_accounts(connection, functions_of(meters), numbers),
    )


def load_for_change(connection: Connection) -> DatedRegistry:
    """Read the registry within the transaction that changes it; other such transactions wait for its end."""
    take(connection, Lock.REGISTRY)
    return load_dated_registry(connection)


def save_dated_registry(
    connection: Connection,
    before: DatedRegistry,
    after: DatedRegistry,
    person: str,
    now: EpochSeconds,
    zone: ZoneInfo,
) -> int:
    """Write what differs between two states, and the audit of each change; return the number of changes.

    Args:
        before: The state in the database, from ``load_for_change``.
        after: The state to write; it has every meter and account of ``before``.
        zone: Local time of the audit's words.
    """
    changes = list(differences(before, after, zone))
    if not changes:
        return 0
    meters = [m for m in after.meters.values() if before.meters.get(m.id) != m]
    mark_changed(connection, before, after)
    accounts = [a for a in after.accounts.values() if before.accounts.get(a.number) != a]
    _replace(connection, installed, "meter", [signed64(m.id) for m in meters], map(_place_row, meters))
    rows = (_holding_row(m, held) for m in meters for held in m.holdings)
    _replace(connection, holding, "meter", [signed64(m.id) for m in meters], rows)
    terms = (row for a in accounts for row in _term_rows(a))
    _replace(connection, account_term, "account", [a.number for a in accounts], terms)
    _insert(connection, account, ({"number": n, "made": now} for n in after.accounts.keys() - before.accounts.keys()))
    audit = ({"time": now, "person": person, **change.texts} for change in changes)
    _insert(connection, registry_change, audit)
    registry_changed(connection)
    return len(changes)


def add_town(connection: Connection, town: Town, now: EpochSeconds, registered: Collection[MeterId]) -> None:
    """Add the dates of meters that are new in a town file: each is at its place, and its account has it.

    A meter that replaces another one is left out: it is installed by ``commonwatt swap meter``.

    Args:
        now: The time, from which on the dates of further meters hold.
        registered: The meters registered before; of these, and of a new town's meters, the dates hold from
            the beginning.
    """
    known = set(connection.execute(select(installed.c.meter)).scalars())
    new = [entry for entry in town.meters if not entry.replaces and signed64(entry.id) not in known]
    added = [_as_registered(m, quarter_of(now) if registered and m.id not in registered else None) for m in new]
    _insert(connection, installed, map(_place_row, added))
    # A recovery may have lost one row of a meter's dates and kept another.
    had = set(connection.execute(select(holding.c.meter)).scalars())
    dated = (m for m in added if signed64(m.id) not in had)
    _insert(connection, holding, (_holding_row(m, held) for m in dated for held in m.holdings))
    listed = set(connection.execute(select(account.c.number)).scalars())
    numbers = sorted({m.account for m in town.meters if m.account} - listed)
    _insert(connection, account, ({"number": number, "made": now} for number in numbers))
    if new:
        words = f"{counted(len(new), 'meter')} and {counted(len(numbers), 'account')} added"
        change = {"subject": "registration", "before": "", "after": words}
        _insert(connection, registry_change, [{"time": now, "person": TOWN_FILE, **change}])


def rename_places(connection: Connection, names: Mapping[MeterId, tuple[str, str]], now: EpochSeconds) -> None:
    """Give places the names that a town file now has; ``names``: of each meter the name before, and the new one.

    A meter whose place has a third name in the dated registry keeps that.
    """
    changed = {meter: both for meter, both in names.items() if both[0] != both[1]}
    if not changed:
        return
    before = load_for_change(connection)
    meters = {
        number: replace(before.meters[number], place=new)
        for number, (old, new) in changed.items()
        if number in before.meters and before.meters[number].place == old
    }
    after = replace(before, meters={**before.meters, **meters})
    save_dated_registry(connection, before, after, TOWN_FILE, now, zone_of(connection))


def end_places(connection: Connection, meters: Collection[MeterId], person: str, now: EpochSeconds) -> None:
    """End the places of removed meters at the begin of the quarter-hour: no page has them now; their readings stay."""
    before, quarter = load_for_change(connection), quarter_of(now)
    gone = [before.meters[number] for number in meters if number in before.meters]
    ended = {meter.id: replace(meter, end=max(quarter, meter.start or 0)) for meter in gone}
    after = replace(before, meters={**before.meters, **ended})
    save_dated_registry(connection, before, after, person, now, zone_of(connection))


def tariff_name(connection: Connection, number: AccountNumber, quarter: Quarter) -> str | None:
    """Return the name of an account's own tariff in a quarter; ``None``: it has the town's."""
    c = account_term.c
    ours = select(c.value).where(c.account == number, c.what == "tariff", c.since <= quarter)
    return connection.execute(ours.order_by(c.since.desc()).limit(1)).scalar()


def accounts_at(connection: Connection, time: EpochSeconds) -> dict[MeterId, AccountNumber]:
    """Return the account that has each meter at a time; 0: nobody has it."""
    quarter = quarter_of(time)
    meters = load_dated_registry(connection).meters.values()
    return {m.id: m.account_at(quarter) or 0 for m in meters}


def changes_of(connection: Connection, subjects: Sequence[str], limit: int) -> list[dict[str, Any]]:
    """Return the newest changes of meters and accounts, such as ``meter 10001``; of none named, of all."""
    statement = select(registry_change).order_by(registry_change.c.no.desc()).limit(limit)
    if subjects:
        statement = statement.where(registry_change.c.subject.in_(subjects))
    return [dict(row) for row in connection.execute(statement).mappings()]


def _as_registered(entry: Meter, since: Quarter | None) -> Installed:
    return Installed(
        id=entry.id,
        microgrid=entry.microgrid,
        place=entry.location,
        building=entry.building,
        function=entry.function,
        direction=entry.direction,
        start=since,
        holdings=(Holding(account=entry.account, start=since or 0),) if entry.account else (),
    )


def _installed(row: Row[Any], place: Row[Any], holdings: Sequence[Holding]) -> Installed:
    return Installed(
        id=unsigned64(row.id),
        microgrid=row.microgrid,
        place=place.place,
        building=place.building,
        function=Function(row.function),
        direction=Direction(row.direction),
        capacity=row.battery_capacity,
        start=place.since,
        end=place.until,
        holdings=tuple(holdings),
        first_register=place.first_register,
        last_register=place.last_register,
    )


def _accounts(
    connection: Connection, functions: dict[AccountNumber, Function], numbers: Collection[AccountNumber] | None
) -> dict[AccountNumber, Account]:
    terms: dict[tuple[int, str], list[Dated[str]]] = {}
    for row in sound_rows(connection, account_term, None if numbers is None else account_term.c.account.in_(numbers)):
        terms.setdefault((row.account, row.what), []).append(Dated(start=row.since, value=row.value))
    listed = select(account.c.number).where(true() if numbers is None else account.c.number.in_(numbers))
    return {
        number: Account(
            number=number,
            function=functions.get(number, Function.HOUSE),
            tariffs=tuple(terms.get((number, "tariff"), ())),
            minimums=tuple(Dated(start=d.start, value=int(d.value)) for d in terms.get((number, "minimum"), ())),
            weights=tuple(Dated(start=d.start, value=Decimal(d.value)) for d in terms.get((number, "weight"), ())),
        )
        for number in connection.execute(listed.order_by(account.c.number)).scalars()
    }


def _place_row(its: Installed) -> dict[str, Any]:
    row = {"meter": signed64(its.id), "place": its.place, "building": its.building, "since": its.start}
    row |= {"until": its.end, "first_register": its.first_register, "last_register": its.last_register}
    return _with_crc(installed, row)


def _holding_row(its: Installed, held: Holding) -> dict[str, Any]:
    row = {"meter": signed64(its.id), "since": held.start, "until": held.end, "account": held.account}
    return _with_crc(holding, row)


def _term_rows(its: Account) -> Iterable[dict[str, Any]]:
    for what, values in its.terms:
        for dated in values:
            row = {"account": its.number, "what": what, "since": dated.start, "value": str(dated.value)}
            yield _with_crc(account_term, row)


def _with_crc(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    return row | {"crc": row_crc(table, row)}


def _replace(
    connection: Connection, table: Table, key: str, keys: Sequence[int], rows: Iterable[dict[str, Any]]
) -> None:
    """Replace the rows of some meters or accounts."""
    for first in range(0, len(keys), 500):
        connection.execute(table.delete().where(table.c[key].in_(keys[first : first + 500])))
    _insert(connection, table, rows)


def _insert(connection: Connection, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    if values := list(rows):
        connection.execute(table.insert(), values)
