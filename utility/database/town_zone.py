"""The time zone of the town: of people's times, local days and months; and the hours of its peak price."""

import json
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from commonwatt.model.units import EpochSeconds
from commonwatt.town.town import TownTable, hours_from
from utility.database.database import Database, read_setting

TOWN = "town"  # setting with the town's figures, JSON
EMULATED_UNTIL = "emulated_until"  # setting with the end of a demonstration's emulated past, epoch seconds


def timezone_of(connection: Connection) -> str:
    """Return the name of the town's time zone; America/New_York before a registration."""
    zone = json.loads(read_setting(connection, TOWN) or "{}").get("timezone")
    return str(zone or TownTable().timezone)


def zone_of(connection: Connection) -> ZoneInfo:
    """Return the town's zone; America/New_York before a registration."""
    return ZoneInfo(timezone_of(connection))


def peak_hours_of(connection: Connection) -> tuple[int, ...]:
    """Return the local hours of the town's peak price; 15 to 20 before a registration."""
    figures, table = json.loads(read_setting(connection, TOWN) or "{}"), TownTable()
    start = figures.get("peak_start_hour", table.peak_start_hour)
    return hours_from(start, figures.get("peak_end_hour", table.peak_end_hour))


def town_zone(database: Database) -> ZoneInfo:
    """Return the town's zone, read from a database."""
    return database.read(zone_of)


class TownZone:
    """The town's zone as a service uses it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # The zone that was read last, for answers that need no database; before that America/New_York.
        self.last = ZoneInfo(TownTable().timezone)
        # Where a demonstration's emulated past ended, when it was read last, epoch seconds; 0: there is none.
        self.emulated_until: EpochSeconds = 0
        # The town's name, its microgrid if it has one alone (else empty), its residents' language (empty: none is
        # chosen) and the currency of a first tariff, when they were read last.
        self.name = self.street = self.language = ""
        self.currency = TownTable().currency

    def read(self) -> ZoneInfo:
        """Return the zone from the database: another process may register another town."""
        with self._database.reads.begin() as connection:
            self.last = zone_of(connection)
            figures = json.loads(read_setting(connection, TOWN) or "{}")
            self.name, self.street = figures.get("name", ""), figures.get("street", "")
            self.language = figures.get("language", "")
            self.currency = figures.get("currency", self.currency)
            self.emulated_until = int(read_setting(connection, EMULATED_UNTIL) or 0)
        return self.last
