"""An issued run that is cancelled: its bills stay as they are, marked; the month is made again (C3)."""

from sqlalchemy import Connection

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from utility.billing.store.billing import newest_issued, run_of
from utility.billing.tables import bill_run


def require_newest(connection: Connection, number: int) -> None:
    """Refuse to cancel a run that is not that of the newest issued month.

    Raises:
        ConfigError: It is not issued, or a later month is.
    """
    run = run_of(connection, number)
    if run["state"] != "issued":
        raise ConfigError(f"run {number} is {run['state']}; only an issued run is cancelled")
    ((_, month, *_),) = newest_issued(connection, 1)
    if month != run["month"]:
        raise ConfigError(
            f"run {number} of {run['month']}: bills of {month} are issued after it, and start from it; only the newest "
            "month is cancelled: mistakes of earlier ones become corrections, credit notes and fees on the next bills"
        )


def cancel_run(connection: Connection, number: int, person: str, now: EpochSeconds) -> None:
    """Cancel a run.

    Raises:
        ConfigError: It is not the run of the newest issued month.
    """
    require_newest(connection, number)
    values = {"state": "cancelled", "cancelled_by": person, "cancelled": now}
    connection.execute(bill_run.update().where(bill_run.c.no == number).values(values))
