"""The tables of all rooms, each declared in ``metadata``; a module that needs all of them imports it from here."""

import utility.access.tables
import utility.alarms.tables
import utility.billing.tables
import utility.care.tables
import utility.cliques.tables
import utility.collection.tables
import utility.control.tables
import utility.corrections.tables
import utility.customers.tables
import utility.database.base
import utility.fleet.tables
import utility.jobs.tables
import utility.ledger.tables
import utility.mail.tables
import utility.outbox.tables
import utility.readings.tables
import utility.registry.tables
import utility.research.tables
import utility.settlement.tables
import utility.statistics.tables
import utility.tariffs.tables  # noqa: F401 - as all of them, for their tables
from utility.database.base import metadata

__all__ = ["metadata"]
