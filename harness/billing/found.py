"""A world whose registry and settled data the utility's functions find, as if its database had them."""

import pytest

from commonwatt.model.units import EpochSeconds
from harness.billing.worlds import World
from utility.billing.store import billing_sources
from utility.database.database import Database
from utility.tariffs.store import tariffs
from utility.tariffs.tariff import Tariff


def found_in_store(monkeypatch: pytest.MonkeyPatch, world: World) -> World:
    """Return a world that runs of bills and their documents are made of until the test ends."""
    monkeypatch.setattr(billing_sources, "load_registry", lambda _: world.inputs.registry)
    monkeypatch.setattr(billing_sources, "newest_settled", lambda _: int(world.settled.version[0, 0]))
    monkeypatch.setattr(billing_sources, "settled_as_of", lambda *_: world.load)
    return world


def published(database: Database, new: Tariff, now: EpochSeconds = 0, text: str = "") -> None:
    """Propose a tariff as one person, and publish it as another."""
    with database.writes.begin() as connection:
        stored = tariffs.propose(connection, new, text, "anna", now)
        tariffs.publish(connection, stored.name, stored.version, "ben", now)
