"""Meters that are exchanged in a database, as ``commonwatt swap meter`` does it."""

from collections.abc import Mapping
from zoneinfo import ZoneInfo

from commonwatt.model.ids import MeterId
from commonwatt.model.units import QUARTER_S, Quarter
from utility.database.database import Database
from utility.readings.store.replaced_meters import register_replacement
from utility.registry.exchange import exchanged
from utility.registry.store.accounts import load_for_change, save_dated_registry


def exchange(database: Database, new: Mapping[MeterId, MeterId], at: Quarter) -> None:
    """Exchange meters, each for the one that it is mapped to, from a quarter on."""
    with database.writes.begin() as connection:
        before = after = load_for_change(connection)
        for old, other in new.items():
            register_replacement(connection, old, other)
            after = exchanged(after, old, other, at, None, None)
        save_dated_registry(connection, before, after, "anna", at * QUARTER_S, ZoneInfo("America/New_York"))
