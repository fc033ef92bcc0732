"""A world whose registry and settled data the utility's functions find, as if its database had them."""

import pytest

from harness.billing.worlds import World
from utility.billing.store import billing_sources


def found_in_store(monkeypatch: pytest.MonkeyPatch, world: World) -> World:
    """Return a world that runs of bills and their documents are made of until the test ends."""
    monkeypatch.setattr(billing_sources, "load_registry", lambda _: world.inputs.registry)
    monkeypatch.setattr(billing_sources, "newest_settled", lambda _: int(world.settled.version[0, 0]))
    monkeypatch.setattr(billing_sources, "settled_as_of", lambda *_: world.load)
    return world
