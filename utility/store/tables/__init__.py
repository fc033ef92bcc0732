"""The database's tables (U1). Parts are appended, never updated; a block joins its parts (docs/architecture.md).

Ids of meters and records are unsigned 64-bit numbers. SQL has signed ones only, so they are stored as ``signed64``
converts them. The tables are the same on every database, except for the partial indexes, which SQLite and PostgreSQL
support, and the partitions of `compacted`, which only PostgreSQL has.
"""

from utility.store.tables.base import metadata
from utility.store.tables.readings import compacted, conflict_sender, dead_letter, event, gap, part, quarantined, series
from utility.store.tables.registry import controller, declared_minimum, meter
from utility.store.tables.research import research_agreement, research_log, research_release
from utility.store.tables.service import command, gateway_seen, period, setting, tally
from utility.store.tables.sharing import sharing, sharing_due, sharing_quarter
from utility.store.tables.supply import plant_quarter, plant_seen, purchase, ration

__all__ = [
    "command",
    "compacted",
    "conflict_sender",
    "controller",
    "dead_letter",
    "declared_minimum",
    "event",
    "gap",
    "gateway_seen",
    "metadata",
    "meter",
    "part",
    "period",
    "plant_quarter",
    "plant_seen",
    "purchase",
    "quarantined",
    "ration",
    "research_agreement",
    "research_log",
    "research_release",
    "series",
    "setting",
    "sharing",
    "sharing_due",
    "sharing_quarter",
    "tally",
]
