"""Statements of mails, and which bills go by mail."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, select, update

from commonwatt.config.utility import OfficeSettings
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import AccountNumber, EpochSeconds
from utility.billing.store.billing import run_of, stored_bills
from utility.customers.store.contacts import contact_of, office_key
from utility.database.database import insert_or
from utility.mail.message import CONFIRM, State, proof
from utility.mail.tables import mail

_c = mail.c
Subjects = Sequence[tuple[AccountNumber, str]]  # accounts, each with the subject of its mail


def plan_of(connection: Connection, office: OfficeSettings, number: int) -> tuple[Subjects, Subjects, Subjects]:
    """Return how a run's bills reach their households: by mail, on paper until an address is confirmed, on paper.

    Raises:
        ConfigError: There is no such run, it is not issued, or no mail server is set.
    """
    if (state := run_of(connection, number)["state"]) != "issued" or office.mail.host is None:
        raise ConfigError(f"run {number} is {state}, the mail server {office.mail.host}: only issued bills are mailed")
    plan: tuple[list[tuple[AccountNumber, str]], ...] = [], [], []
    key, known = office_key(office), set(connection.scalars(select(_c.subject).where(_c.state == State.CONFIRMED)))
    for account, stored in stored_bills(connection, number).items():
        who = contact_of(connection, key, stored.bill.addressee) if stored.bill else None
        if who is None or who.paper or not who.mail:
            plan[2].append((account, ""))
        elif (digest := proof(key, "digest", account, who.mail)) in known:
            plan[0].append((account, str(number)))
        else:
            plan[1].append((account, digest))
    return plan[0], plan[1], plan[2]


def add_mails(connection: Connection, kind: str, subjects: Subjects, now: EpochSeconds, base: str = "") -> None:
    """Queue mails; one that there is already stays as it is."""
    rows = [{"account": account, "subject": subject} for account, subject in subjects]
    same = {"kind": kind, "state": State.QUEUED, "due": now, "base": base}
    if rows:
        connection.execute(insert_or(connection, mail).on_conflict_do_nothing(), [row | same for row in rows])


def take_due(connection: Connection, now: EpochSeconds, most: int) -> Sequence[Any]:
    """Return queued mails that are due, the oldest first; those that a crash interrupted become unknown."""
    connection.execute(update(mail).where(_c.state == State.SENDING).values(state=State.UNKNOWN))
    is_due = (_c.state == State.QUEUED) & (_c.due <= now)
    return connection.execute(select(mail).where(is_due).order_by(_c.no).limit(most)).all()


def move(
    connection: Connection, number: int, was: Iterable[State], state: State, values: Mapping[str, int] = {}
) -> bool:
    """Bring a mail from one of some states to another; return whether it was in one."""
    ours = (_c.no == number) & _c.state.in_([*was])
    return connection.execute(update(mail).where(ours).values({"state": state, **values})).rowcount == 1


def confirm(connection: Connection, account: AccountNumber, digest: str) -> bool:
    """Mark an account's address as confirmed; return whether the account was asked for it."""
    ours = (_c.kind == CONFIRM) & (_c.account == account) & (_c.subject == digest)
    return connection.execute(update(mail).where(ours).values(state=State.CONFIRMED)).rowcount == 1


def is_confirmed(connection: Connection, account: AccountNumber, digest: str) -> bool:
    """Return whether an account's address is confirmed."""
    ours = (_c.state == State.CONFIRMED) & (_c.account == account) & (_c.subject == digest)
    return connection.execute(select(_c.no).where(ours)).first() is not None


def count_mails(connection: Connection) -> Mapping[str, int]:
    """Return the number of mails by state."""
    return dict(connection.execute(select(_c.state, func.count()).group_by(_c.state)).all())


def troubled(connection: Connection, most: int) -> Sequence[Any]:
    """Return mails that a clerk has to look at, the newest first."""
    states = _c.state.in_((State.REFUSED, State.UNKNOWN))
    return connection.execute(select(mail).where(states).order_by(_c.no.desc()).limit(most)).all()
