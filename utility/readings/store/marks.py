"""SQL of the database's marks: two settings, one of them changed by each commit of what gateways sent."""

import json
import logging
import secrets
from collections.abc import Callable
from dataclasses import astuple, replace

from sqlalchemy import Connection, bindparam, select, update

from commonwatt.protocol.batches import Mark
from utility.database.base import SQLAlchemyError
from utility.database.database import RUNS, new_store_id, read_setting, save_setting
from utility.database.tables import setting
from utility.readings.marks import MOST_RUNS, Earlier, Marks

RUN = "run"  # setting: the present run and its last commit, "run counter"

log = logging.getLogger(__name__)


class MovedError(SQLAlchemyError):
    """The database is not as this service left it: it went back, or another service wrote; nothing was committed."""


_KEPT = select(setting.c.value).where(setting.c.key == RUN).with_for_update()
_ADVANCE = (
    update(setting)
    .where((setting.c.key == RUN) & (setting.c.value == bindparam("before")))
    .values(value=bindparam("after"))
)


def advance(connection: Connection, marks: Marks) -> None:
    """Count a commit, in its transaction.

    Raises:
        MovedError: The last commit in the database is not the last of this service.
    """
    before, after = f"{marks.run} {marks.counter}", "{} {}".format(*marks.next)
    if connection.execute(_ADVANCE, {"before": before, "after": after}).rowcount != 1:
        raise MovedError(f"the database is not at commit {marks.counter} of run {marks.run:x}")


def begin(connection: Connection, marks: Marks, draw: Callable[[int], int] = secrets.randbits) -> tuple[Marks, int]:
    """Begin a run.

    Args:
        marks: The marks so far of this service.
        draw: Returns a random number of so many bits.

    Returns:
        The new marks; and the id of the store, a new one if commits of this service are missing: 0: none is.
    """
    earlier = {int(run): Earlier(*one) for run, one in json.loads(read_setting(connection, RUNS) or "{}").items()}
    # A commit without an answer may still hold the row; this waits for its end.
    run, last = map(int, (connection.execute(_KEPT).scalar() or "0 0").split())
    if last:
        earlier[run] = Earlier(last)
    kept, store_id = earlier.get(marks.run, Earlier(0)).last, 0
    if kept < marks.counter:
        earlier[marks.run] = Earlier(kept, noticed=True)
        store_id = new_store_id(connection, draw(63), forget=False)
        log.warning(
            "the database went back by %d commits while this service ran: nothing of them is taken for stored, and the "
            "gateways send it again; what people decided since is lost",
            marks.counter - kept,
        )
    elif marks.run:
        log.warning("the database was written by another service, or answered a commit too late")
    new = Marks(draw(32) or 1, 0, dict(list(earlier.items())[-MOST_RUNS:]))
    save_setting(connection, RUN, f"{new.run} 0")
    _save_earlier(connection, new)
    return new, store_id


def notice(connection: Connection, marks: Marks, mark: Mark, draw: Callable[[int], int] = secrets.randbits) -> int:
    """Note that the database lacks a commit that a gateway saw, as after a restore; return the store's new id."""
    run, counter = mark
    log.warning("the database lacks commit %d of run %x, which a gateway saw: it went back", counter, run)
    marks.earlier[run] = replace(marks.earlier.get(run, Earlier(0)), noticed=True)
    _save_earlier(connection, marks)
    return new_store_id(connection, draw(63), forget=False)


def _save_earlier(connection: Connection, marks: Marks) -> None:
    save_setting(connection, RUNS, json.dumps({run: astuple(one) for run, one in marks.earlier.items()}))
