"""The furnished small town: settled months, bills, a moved household; an application with people of each role."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import numpy as np
from sqlalchemy import select

from commonwatt.codec.packing import pack
from commonwatt.model.blocks import Blocks, make_blocks
from commonwatt.model.calendar import month_quarters
from commonwatt.model.records import RecordType
from commonwatt.model.units import EpochSeconds, MeterId
from commonwatt.town.loading import load_town
from commonwatt.town.town import Direction, Function, Meter, Town
from harness.billing.worlds import ZONE, tariff
from harness.console import standing_api
from harness.routes import Visitors
from harness.surroundings.messages import append
from utility.access.people import Role
from utility.access.secrets import digest, new_token
from utility.access.tables import api_token
from utility.assembly.application import make_app
from utility.billing.store import runs
from utility.billing.store.run_bills import computed_run, prepared, saved
from utility.database.bulk import insert_columns
from utility.database.database import Database, open_database
from utility.database.migrate import empty_database
from utility.database.numbers import Column
from utility.energy.quarters import QUARTERS_A_DAY, Quantity
from utility.jobs.tables import settled_day
from utility.readings.store.reads import numbers_of
from utility.readings.store.writer import Writer
from utility.registry.accounts import Account, Dated, DatedRegistry, Holding
from utility.registry.store.accounts import load_for_change, save_dated_registry
from utility.registry.store.registration import fill_registry
from utility.registry.tables import controller, declared_minimum
from utility.settlement.packed import MeterDays, contents, packed
from utility.settlement.tables import settled
from utility.tariffs import store as tariffs

TOWN = """microgrid = [
 {id = "r", kind = "residential", count = 2, houses = 2},
 {id = "a", kind = "apartment", buildings = 1, apartments = 3},
]
"""
# Accounts: one that never moved; one that moved out, and the one after it in the same house; one in the building.
HOUSE, BEFORE, AFTER, APARTMENT = 2, 1, 99, 5
MONTH = "2026-12"  # the month with issued bills


def moved_at() -> int:
    """Return the quarter of the move: in the month after the one with bills."""
    return month_quarters("2027-01", ZoneInfo(ZONE))[0] + 4 * 96


def furnish(database: Database, town: Town, now: EpochSeconds) -> None:
    """Fill a registered town's database: tariff, move, settled days, readings, the bills of a month."""
    with database.writes.begin() as connection:
        stored = tariffs.propose(connection, tariff(), "", "anna", now)
        tariffs.publish(connection, stored.name, stored.version, "ben", now)
        before = load_for_change(connection)
        save_dated_registry(connection, before, _moved(before), "anna", now, ZoneInfo(ZONE))
        meters = [m for m in before.meters.values() if m.function is not Function.BOUNDARY]
    first = month_quarters(MONTH, ZoneInfo(ZONE))[0] // QUARTERS_A_DAY
    store_settled(database, {m.id: m.direction for m in meters}, range(first, now // 86_400))
    store_readings(database, town, now)
    _issue(database, now)


def _moved(before: DatedRegistry) -> DatedRegistry:
    meters = dict(before.meters)
    for meter in before.meters.values():
        if any(held.account == BEFORE for held in meter.holdings):
            holdings = (Holding(account=BEFORE, start=0, end=moved_at()), Holding(account=AFTER, start=moved_at()))
            meters[meter.id] = replace(meter, holdings=holdings)
    new = Account(number=AFTER, function=Function.HOUSE, weights=(Dated(start=moved_at(), value=Decimal(2)),))
    return replace(before, meters=meters, accounts=dict(before.accounts) | {AFTER: new})


def store_settled(database: Database, meters: Mapping[MeterId, Direction], days: range) -> None:
    """Store final settled days of some meters, random energies, all of them measured."""
    rng = np.random.default_rng(1)
    with database.writes.begin() as connection:
        numbers = numbers_of(connection, sorted(meters))
        owners = connection.execute(select(controller.c.number)).scalars().all()
        for day in days:
            ids = sorted(meters)
            incoming = np.array([meters[i] is Direction.INCOMING for i in ids])
            shape = len(ids), QUARTERS_A_DAY
            taken, given = ((Quantity.IMPORTED, Quantity.SHARED_IN), (Quantity.EXPORTED, Quantity.SHARED_OUT))
            has = {q: incoming if q in taken else ~incoming for q in (*taken, *given)}
            energies = {q: rng.integers(1, 300, shape) * 1000 * flags[:, None] for q, flags in has.items()}
            made = contents(MeterDays(energies=energies, has=has, quality=np.full(shape, 4, np.uint8)))
            columns = {
                "day": [day] * len(ids),
                "meter_no": [numbers[i] for i in ids],
                "computed_minute": [0] * len(ids),
            }
            columns |= {"version": [1] * len(ids), "why": [1] * len(ids)}
            payloads = packed([(i, day) for i in ids], made)
            insert_columns(
                connection, settled, {k: Column(np.array(v, np.int64)) for k, v in columns.items()}, payloads
            )
            rows = [
                {"day": day, "owner_no": owner, "convention": "pro_rata", "computed": 0, "missing": 0, "final": True,
                 "residual": '{"head": {}, "tail": null, "worst": 0, "fixed": 0}'}
                for owner in owners
            ]  # fmt: skip
            connection.execute(settled_day.insert(), rows)


def store_readings(database: Database, town: Town, now: EpochSeconds) -> None:
    """Store readings of every meter of the last two days, and the minimum that each battery's meter reports."""
    for microgrid in town.microgrids.values():
        writer, blocks = Writer(database), readings_of(microgrid.meters, range(now // 900 - 192, now // 900))
        made = append(blocks, sender=microgrid.id, received=now)
        writer.commit([replace(made, owner=microgrid.id, payloads=pack(blocks))])
    with database.writes.begin() as connection:
        batteries = [m.id for m in town.meters if m.battery is not None]
        rows = [{"meter_no": n, "percent": 75, "said": now - 7200} for n in numbers_of(connection, batteries).values()]
        connection.execute(declared_minimum.insert(), rows)


def readings_of(meters: Iterable[Meter], quarters: range) -> Blocks:
    """Return random readings of some meters."""
    rng = np.random.default_rng(2)
    keys = [(m.id, int(kind), q) for m in meters for kind in m.record_types for q in quarters]
    shape = len(keys), 60
    values = rng.integers(0, 5_000, shape)
    stored = np.array([kind == RecordType.STORED for _, kind, _ in keys])
    values[stored] = 10_000_000
    return make_blocks(keys, values, np.full(shape, 2))


def _issue(database: Database, now: EpochSeconds) -> None:
    number = saved(database, computed_run(database, prepared(database, MONTH, "town", now)), "anna", now)
    assert number is not None
    with database.writes.begin() as connection:
        runs.check_run(connection, number, "anna", now)
        runs.issue_run(connection, number, "ben", now)


LOCAL_KEY = "the key of programs on this machine"


@cache
def furnished_image(now: EpochSeconds) -> bytes:
    """Return the file of the furnished town's database; a process makes it once."""
    with TemporaryDirectory() as name:
        town, path = Path(name) / "town.toml", Path(name) / "utility.db"
        town.write_text(TOWN)
        loaded = load_town(town)
        path.write_bytes(empty_database())
        opened = open_database(f"sqlite:///{path}", create=True)
        with opened.writes.begin() as connection:
            fill_registry(connection, loaded)
        furnish(opened, loaded, now)
        opened.close()  # Its log is in the file then.
        return path.read_bytes()


@contextmanager
def furnished(folder: Path, now: EpochSeconds) -> Iterator[Database]:
    """Make the town's database in a folder."""
    (folder / "town.toml").write_text(TOWN)
    (folder / "utility.db").write_bytes(furnished_image(now))
    opened = open_database(f"sqlite:///{folder / 'utility.db'}", create=False)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def visited(database: Database, now: EpochSeconds) -> Iterator[Visitors]:
    """Make the application, with a person for each role, named after it, and one with all roles: ``everything``."""
    with Visitors(make_app(standing_api(database, now, local_key=LOCAL_KEY))) as visitors:
        for role in Role:
            visitors.add(role.value, frozenset({role}), HOUSE if role is Role.RESIDENT else None)
        visitors.add("everything", frozenset(Role), HOUSE)
        yield visitors


def token_of(database: Database, name: str, roles: str, now: EpochSeconds) -> dict[str, str]:
    """Make an API token; return the headers of its requests."""
    token = new_token()
    row = {"digest": digest(token), "person": name, "label": f"{name}'s token", "roles": roles, "made": now}
    with database.writes.begin() as connection:
        connection.execute(api_token.insert(), row | {"until": now + 60, "used": None, "revoked": None})
    return {"Authorization": f"Bearer {token}"}


CANARY = {
    "name": "Canaria Vogel",
    "street": "Käfigweg 77",
    "postcode": "99988",
    "city": "Piepstadt",
    "country": "DE",
    "mail": "canary@piep.example",
    "iban": "DE02120300000000202051",
    "mandate": "PIEP-1",
    "mandate_day": "2026-11-03",
}
SIGNS = ("Canaria", "Vogel", "Käfigweg", "Piepstadt", "piep.example", "DE02120300000000202051", "PIEP-1")
PAGE = f"/console/accounts/{HOUSE}"  # the clerk's page of the household


def store_canary(visitors: Visitors) -> None:
    """Let a clerk put the people into the office's books, and into those of a move to come."""
    clerk = visitors.session("clerk")
    for fields in ({"kind": "people", "at": "2026-11-01"}, {"kind": "move", "at": "2027-02-01", "next": "new"}):
        for action in ("see", "do"):
            done = visitors.ask("POST", PAGE, clerk, data=fields | CANARY | {"action": action})
            assert done.status_code == (303 if action == "do" else 200), done.text


def found_in(content: bytes | str) -> list[str]:
    """Return the signs of the people that some content has."""
    raw = content.encode() if isinstance(content, str) else content
    return [sign for sign in SIGNS if sign.encode() in raw or sign.encode("utf-16-le") in raw]
