"""What people entered for bills: approved by a second person, then on the next bills until one has the last of it.

Or it cancels an issued run: its bills stay as they are, marked, and the month is made again (C3).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from utility.billing.bill import EntryKind, to_cents
from utility.billing.proof import bill_of
from utility.billing.store.runs import newest_issued, run_of
from utility.billing.tables import bill, bill_entry, bill_run
from utility.registry.tables import holding

_c = bill_entry.c


def add_entry(connection: Connection, row: Mapping[str, Any]) -> int:
    """Store what a person entered, for another one to approve; return its number."""
    held = select(holding.c.meter).where(holding.c.account == row["subject"]).limit(1)
    if row["kind"] != EntryKind.CANCEL and connection.execute(held).first() is None:
        raise ConfigError(f"account {row['subject']} never had a meter, and gets no bills")
    values = {**row, "left_cents": row["cents"], "state": "entered"}
    return int(connection.execute(bill_entry.insert().values(values).returning(_c.no)).scalar_one())


def entries(connection: Connection, limit: int, before: int = 0) -> Sequence[Mapping[str, Any]]:
    """Return what people entered, the newest first; only numbers below ``before``, unless it is 0."""
    statement = select(bill_entry).where(_c.no < (before or 2**31)).order_by(_c.no.desc()).limit(limit)
    return [dict(row) for row in connection.execute(statement).mappings()]


def entry_of(connection: Connection, number: int) -> Mapping[str, Any]:
    """Return what people entered under a number."""
    row = connection.execute(select(bill_entry).where(_c.no == number)).mappings().first()
    if row is None:
        raise ConfigError(f"{number}: there is no entry with this number")
    return dict(row)


def step(connection: Connection, number: int, state: str, person: str, now: EpochSeconds) -> Mapping[str, Any]:
    """Approve (``approved``) or withdraw (``withdrawn``) what a person entered; return it as it was.

    Raises:
        ConfigError: It is decided already.
    """
    was, ours = entry_of(connection, number), (_c.no == number) & (_c.state == "entered")
    values = {"state": state, "decided_by": person, "decided": now}
    if not connection.execute(bill_entry.update().where(ours).values(values)).rowcount:
        undo = "; two people undo an approved one by its opposite" if state == "withdrawn" else ""
        raise ConfigError(f"entry {number} is {was['state']} and can't be {state}{undo}")
    return was


def count_entered(connection: Connection) -> int:
    """Return how many entries wait for a second person."""
    return int(connection.execute(select(func.count()).where(_c.state == "entered")).scalar_one())


def take_entries(connection: Connection, run: int, *, back: bool = False) -> None:
    """Take what the bills of a run have of entries off what is left of them; ``back``: add it, the run is cancelled."""
    statement = select(bill.c.content).where(bill.c.run_no == run, bill.c.content.contains('"kind":"entry"'))
    bills = map(bill_of, connection.execute(statement).scalars())
    for line in [line for each in bills for line in each.lines if line.entry]:
        left = _c.left_cents + to_cents(line.amount) * (1 if back else -1)
        ours = (_c.no == line.entry) & (_c.state == "approved") & (left * _c.cents >= 0)
        if not connection.execute(bill_entry.update().where(ours).values(left_cents=left)).rowcount:
            raise ConfigError(f"another bill has entry {line.entry} of run {run}: make a new run")


def require_newest(connection: Connection, run: int) -> None:
    """Refuse to cancel a run that is not that of the newest issued month.

    Raises:
        ConfigError: It is not issued, or a later month is.
    """
    found = run_of(connection, run)
    if found["state"] != "issued":
        raise ConfigError(f"run {run} is {found['state']}; only an issued run is cancelled")
    ((_, month, *_),) = newest_issued(connection, 1)
    if month != found["month"]:
        raise ConfigError(
            f"run {run} of {found['month']}: bills of {month} are issued after it, and start from it; only the newest "
            "month is cancelled: mistakes of earlier ones become corrections, credit notes and fees on the next bills"
        )


def cancel_run(connection: Connection, run: int) -> None:
    """Cancel the run of the newest issued month, as ``require_newest`` allows; its bills' entries are open again."""
    require_newest(connection, run)
    connection.execute(bill_run.update().where(bill_run.c.no == run).values(state="cancelled"))
    take_entries(connection, run, back=True)
