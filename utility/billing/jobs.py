"""The job of billing: the draft of each month's bills. It may be repeated: a month has one run of the service."""

import logging

from utility.billing.store.run_bills import computed_run, prepared, saved
from utility.billing.store.runs import SERVICE, bills_wait_for, is_to_bill
from utility.billing.stored_run import Computed
from utility.database.database import Database
from utility.jobs.plans import Threads
from utility.jobs.store import NotYetError, Turn
from utility.settings import BillingSettings

LOOK_AGAIN_S = 3_600  # seconds until a month that can't be billed yet is looked at again

log = logging.getLogger(__name__)


async def make_bills(settings: BillingSettings, database: Database, threads: Threads, turn: Turn) -> None:
    """Make the draft of a month's bills as soon as all its days are final, and the months before it are issued.

    Raises:
        NotYetError: It waits for readings, or for an earlier month.
    """
    bills: Computed | None = await threads.read(_bills, settings, database, turn)
    if bills is None:
        return
    number = await threads.write(saved, database, bills, SERVICE, turn.now)
    if number is not None:
        log.info("bills of %s: run %s is a draft for two people to check and issue", bills.run.month, number)


def _bills(settings: BillingSettings, database: Database, turn: Turn) -> Computed | None:
    if not is_to_bill(database, turn.period):
        return None
    if (waits_for := bills_wait_for(database, turn.period)) is not None:
        raise NotYetError(waits_for, turn.now + LOOK_AGAIN_S)
    bills = computed_run(database, prepared(database, turn.period.name, settings.tariff, turn.now))
    return bills if bills.billed else None
