"""A small town with a year of settled quarter-hours, and its console on a clock that people move."""

from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from fastapi import FastAPI

from commonwatt.config.office import OfficeSettings
from commonwatt.config.utility import UtilitySettings
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.clock import Clock
from commonwatt.town.loading import load_town
from harness.console import Browser, standing_api
from harness.office.desk import Desk
from harness.statistics.stored import random_day, settle
from utility.access.roles import Role
from utility.assembly.application import make_app
from utility.database.database import Database, open_database
from utility.database.migrate import empty_database
from utility.registry.store.registration import fill_registry
from utility.settlement.store.settlement_members import owners

ZONE = ZoneInfo("Europe/Vienna")
FIRST, UNTIL = date(2025, 12, 31), date(2027, 1, 2)  # the UTC days that are settled
IBAN = "DE89370400440532013000"

_TOWN = """
[town]
timezone = "Europe/Vienna"
[[microgrid]]
id = "r"
kind = "residential"
count = 2
houses = 5
[[microgrid]]
id = "apt"
kind = "apartment"
buildings = 1
apartments = 7
[[microgrid]]
id = "pub"
kind = "public"
"""


def local(text: str) -> EpochSeconds:
    """Return a local time of the town, such as ``2026-02-03 09:00``."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp())


class OfficeTown:
    """The town, its database and console."""

    def __init__(self, folder: Path, **office: object) -> None:
        self.folder, self.file = folder, folder / "utility.db"
        self.file.write_bytes(empty_database())
        self.database: Database = open_database(f"sqlite:///{self.file}", create=True)
        (folder / "town.toml").write_text(_TOWN)
        with self.database.writes.begin() as connection:
            fill_registry(connection, load_town(folder / "town.toml"))
        self.clock = Clock(origin=local("2025-12-10 09:00"), monotonic_origin=0, speed=0)
        named = OfficeSettings.model_validate(
            {"key": folder / "office.key", "name": "Sonnstadt", "iban": IBAN, "creditor": "DE98ZZZ09999999999"} | office
        )
        self.settings = UtilitySettings(second_factor="optional", office=named)
        self.app: FastAPI = make_app(
            standing_api(self.database, 0, clock=self.clock, settings=self.settings, machine_s=self.now)
        )
        self._desks: list[Desk] = []
        self.config = folder / "utility.toml"  # the utility's file, for commands
        self.config.write_text(f'[utility]\ndatabase = "sqlite:///{self.file}"\n')

    def now(self) -> EpochSeconds:
        """Return the time."""
        return int(self.clock.now())

    def settle_year(self) -> None:
        """Store the settled quarter-hours of the year, as the job of settlement does."""
        with self.database.reads.begin() as connection:
            members = list(owners(connection).values())
        for day in range((FIRST - date(1970, 1, 1)).days, (UNTIL - date(1970, 1, 1)).days):
            settle(self.database, members, random_day(members, day))

    def person(self, name: str, *roles: Role, account: int | None = None) -> Desk:
        """Return a person at the console."""
        desk = Desk(lambda: Browser(self.app, *roles, name=name, account=account))
        self._desks.append(desk)
        return desk

    def morning(self, text: str) -> None:
        """Go on to a local time; people log in again."""
        self.clock.origin = local(text)
        for desk in self._desks:
            desk.come()
