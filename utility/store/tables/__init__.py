"""The database's tables (U1). Parts are appended, never updated; a block joins its parts (docs/architecture.md).

Ids of meters and records are unsigned 64-bit numbers. SQL has signed ones only, so they are stored as ``signed64``
converts them. The tables are the same on every database, except for the partial indexes, which SQLite and PostgreSQL
support, and the partitions of `compacted`, which only PostgreSQL has.
"""

from utility.store.tables.access import (
    api_token,
    audit,
    invitation,
    person,
    person_role,
    recovery_code,
    second_factor,
    session,
    started_login,
)
from utility.store.tables.accounts import (
    account,
    account_difference,
    account_term,
    holding,
    installed,
    registry_change,
)
from utility.store.tables.alarms import alarm, alarm_acknowledgement, alarm_silence
from utility.store.tables.base import metadata
from utility.store.tables.billing import bill, bill_run, rates_told, rates_version
from utility.store.tables.commands import control_change, control_target, control_version, relayed_day, weights_told
from utility.store.tables.corrections import checked_day, correction, correction_step, finding
from utility.store.tables.overview import complete_day
from utility.store.tables.readings import compacted, conflict_sender, dead_letter, event, gap, part, quarantined, series
from utility.store.tables.registry import controller, declared_minimum, meter
from utility.store.tables.research import research_agreement, research_log, research_reader, research_release
from utility.store.tables.service import command, gateway_seen, job, period, setting, tally
from utility.store.tables.settled import settled, settled_day, settlement_due
from utility.store.tables.sharing import sharing, sharing_due, sharing_quarter
from utility.store.tables.statistics import usage_batteries, usage_day, usage_due, usage_month, usage_projection
from utility.store.tables.supply import plant_quarter, plant_seen, purchase, ration

__all__ = [
    "account",
    "account_difference",
    "account_term",
    "alarm",
    "alarm_acknowledgement",
    "alarm_silence",
    "api_token",
    "audit",
    "bill",
    "bill_run",
    "checked_day",
    "command",
    "compacted",
    "complete_day",
    "conflict_sender",
    "control_change",
    "control_target",
    "control_version",
    "controller",
    "correction",
    "correction_step",
    "dead_letter",
    "declared_minimum",
    "event",
    "finding",
    "gap",
    "gateway_seen",
    "holding",
    "installed",
    "invitation",
    "job",
    "metadata",
    "meter",
    "part",
    "period",
    "person",
    "person_role",
    "plant_quarter",
    "plant_seen",
    "purchase",
    "quarantined",
    "rates_told",
    "rates_version",
    "ration",
    "recovery_code",
    "registry_change",
    "relayed_day",
    "research_agreement",
    "research_log",
    "research_reader",
    "research_release",
    "second_factor",
    "series",
    "session",
    "setting",
    "settled",
    "settled_day",
    "settlement_due",
    "sharing",
    "sharing_due",
    "sharing_quarter",
    "started_login",
    "tally",
    "usage_batteries",
    "usage_day",
    "usage_due",
    "usage_month",
    "usage_projection",
    "weights_told",
]
