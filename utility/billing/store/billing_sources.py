"""Where runs of bills get the registry with its dates and the settled quarter-hours."""

from utility.billing.inputs import Load
from utility.database.database import Database
from utility.registry.store.accounts import load_dated_registry as load_registry
from utility.registry.store.accounts import load_registry_around
from utility.settlement.store.settled import load_settled
from utility.settlement.store.settled import newest as newest_settled

__all__ = ["load_registry", "load_registry_around", "newest_settled", "settled_as_of"]


def settled_as_of(database: Database, number: int) -> Load:
    """Return a function that loads settled quarter-hours as they were at a row number."""
    return lambda meters, first, until: database.read(load_settled, meters, first, until, as_of=number)
