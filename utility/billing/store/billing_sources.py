"""Where runs of bills get the registry with its dates and the settled quarter-hours."""

from collections.abc import Sequence

from commonwatt.model.ids import MeterId
from commonwatt.model.units import Quarter
from commonwatt.settlement.settled import SettledQuarters
from utility.billing.inputs import Load
from utility.database.database import Database
from utility.registry.store.accounts import load_dated_registry as load_registry
from utility.registry.store.accounts import load_registry_around
from utility.settlement.store.settled import load_settled
from utility.settlement.store.settled import newest as newest_settled

__all__ = ["load_registry", "load_registry_around", "newest_settled", "settled_as_of"]


def settled_as_of(database: Database, number: int) -> Load:
    """Return a function that loads settled quarter-hours as they were at a row number."""

    def load(meters: Sequence[MeterId], first: Quarter, until: Quarter) -> SettledQuarters:
        with database.reads.begin() as connection:
            return load_settled(connection, meters, first, until, as_of=number)

    return load
