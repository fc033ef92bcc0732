"""A utility's application with a small town, and browsers of people."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from commonwatt.config.utility import ResearchSettings, UtilitySettings
from commonwatt.runtime.clock import Clock
from commonwatt.town.town import Town, load_town
from harness.console import Browser, standing_api
from utility.access.roles import Role
from utility.assembly.application import make_app
from utility.database.database import Database, open_database
from utility.database.migrate import empty_database
from utility.registry.store.registration import fill_registry

NOW = 1_800_005_000


@pytest.fixture
def town(tmp_path: Path) -> Town:
    path = tmp_path / "town.toml"
    path.write_text('microgrid = [{id = "r", kind = "residential", count = 2, houses = 2}]\n')
    return load_town(path)


@pytest.fixture
def database(tmp_path: Path, town: Town) -> Iterator[Database]:
    # Faster than making the tables anew.
    (tmp_path / "utility.db").write_bytes(empty_database())
    opened = open_database(f"sqlite:///{tmp_path}/utility.db", create=True)
    with opened.writes.begin() as connection:
        fill_registry(connection, town)
    yield opened
    opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock(origin=NOW, monotonic_origin=0, speed=0)


@pytest.fixture
def settings(tmp_path: Path) -> UtilitySettings:
    return UtilitySettings(second_factor="optional", research=ResearchSettings(releases=tmp_path / "releases"))


@pytest.fixture
def app(database: Database, clock: Clock, settings: UtilitySettings) -> FastAPI:
    return make_app(standing_api(database, NOW, clock=clock, settings=settings))


@pytest.fixture
def browser(app: FastAPI) -> Callable[..., Browser]:
    """Return a person's browser: ``browser(Role.CLERK)``, ``browser(Role.RESIDENT, account=5)``, ``browser()``."""

    def make(*roles: Role, name: str = "", account: int | None = None) -> Browser:
        return Browser(app, *roles, name=name, account=account)

    return make
