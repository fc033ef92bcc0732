"""The tables of all rooms."""

from utility.access import tables as access
from utility.alarms import tables as alarms
from utility.billing import tables as billing
from utility.collection import tables as collection
from utility.control import tables as control
from utility.corrections import tables as corrections
from utility.database import tables as database
from utility.database.base import metadata
from utility.jobs import tables as jobs
from utility.outbox import tables as outbox
from utility.readings import tables as readings
from utility.registry import tables as registry
from utility.research import tables as research
from utility.settlement import tables as settlement
from utility.statistics import tables as statistics
from utility.supply import tables as supply
from utility.takeover import tables as takeover
from utility.tariffs import tables as tariffs

__all__ = ["TABLES", "metadata"]

TABLES = (
    access,
    alarms,
    billing,
    collection,
    control,
    corrections,
    database,
    jobs,
    outbox,
    readings,
    registry,
    research,
    settlement,
    statistics,
    supply,
    takeover,
    tariffs,
)
"""Each declares its tables in ``metadata``; a module that needs all of them imports it from here."""
