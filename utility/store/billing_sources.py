"""Where runs of bills get the registry with its dates and the settled quarter-hours."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from sqlalchemy import Connection

from commonwatt.model.exceptions import StoreError
from commonwatt.model.ids import MeterId
from commonwatt.model.units import Quarter
from commonwatt.settlement.settled import SettledQuarters
from utility.billing.inputs import Load
from utility.registry.accounts import DatedRegistry
from utility.store.database import Database


def load_registry(connection: Connection) -> DatedRegistry:
    """Return meters and accounts with their dates."""
    found: DatedRegistry = _module("accounts").load_dated_registry(connection)
    return found


def newest_settled(connection: Connection) -> int:
    """Return the highest row number of settled data."""
    return int(_module("settled").newest(connection))


def settled_as_of(database: Database, number: int) -> Load:
    """Return a function that loads settled quarter-hours as they were at a row number."""
    load_settled = _module("settled").load_settled

    def load(meters: Sequence[MeterId], first: Quarter, until: Quarter) -> SettledQuarters:
        with database.reads.begin() as connection:
            found: SettledQuarters = load_settled(connection, meters, first, until, as_of=number)
        return found

    return load


def _module(name: str) -> Any:
    # Both are joined with billing when settlement is part of this version.
    try:
        return import_module(f"utility.store.{name}")
    except ModuleNotFoundError as error:
        raise StoreError(f"this version has no {error.name}, which bills are computed from") from error
