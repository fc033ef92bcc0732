"""Statements of mails, and which bills go by mail."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, select, update

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import AccountNumber, EpochSeconds, quarter_of
from utility.billing.store.runs import run_of, stored_bills
from utility.customers.store import contact_of, newest_contacts, office_key
from utility.database.database import insert_or
from utility.ledger import store as entries
from utility.mail.message import CONFIRM, REMINDER, MailState, proof
from utility.mail.tables import mail
from utility.moves.move import COMES, OUT, TOLD, MoveKind
from utility.registry.store.statements import moves_to_come
from utility.settings import OfficeSettings, UtilitySettings

_c = mail.c
Subjects = list[tuple[AccountNumber, str]]  # accounts, each with the subject of its mail; empty: it gets none


def plan_of(connection: Connection, office: OfficeSettings, number: int) -> tuple[Subjects, Subjects, Subjects]:
    """Return how a run's bills reach their households: by mail; on paper until an address is confirmed; on paper.

    Raises:
        ConfigError: There is no such run, it is not issued, or no mail server is set.
    """
    if office.mail.host is None:
        raise ConfigError("no mail goes out from here yet: there is no mail server", "set the office's mail.host")
    if (state := run_of(connection, number)["state"]) != "issued":
        raise ConfigError(f"run {number} is {state}: only issued bills are mailed")
    plan: tuple[Subjects, Subjects, Subjects] = [], [], []
    key, known = office_key(connection, office), confirmed(connection)
    for account, stored in stored_bills(connection, number).items():
        who = contact_of(connection, key, stored.bill.addressee) if stored.bill else None
        digest = proof(key, "digest", account, who.mail) if who and who.mail and not who.paper else ""
        place = 2 if not digest else 0 if digest in known else 1
        plan[place].append((account, digest if place else str(number)))
    return plan


def add_mails(connection: Connection, kind: str, subjects: Subjects, now: EpochSeconds, base: str = "") -> None:
    """Queue mails; one that there is already stays as it is."""
    same = {"kind": kind, "state": MailState.QUEUED, "due": now, "base": base}
    if rows := [{"account": account, "subject": subject} | same for account, subject in subjects]:
        connection.execute(insert_or(connection, mail).on_conflict_do_nothing(), rows)


def remind(connection: Connection, settings: UtilitySettings, now: EpochSeconds) -> None:
    """Append the reminders that are due, and queue a mail of each if there is a mail server."""
    made = entries.remind(connection, settings.billing.tariff, now)
    if settings.office.mail.host is not None:
        add_mails(connection, REMINDER, [(account, f"{of.split()[1]}/{now}") for account, of in made], now)


def tell_moves(connection: Connection, office: OfficeSettings, now: EpochSeconds) -> None:
    """Queue mails to the confirmed addresses of households that move on a day to come, or no longer do."""
    quarter = quarter_of(now)
    dated = moves_to_come(connection, quarter)
    mails = select(_c.account, _c.kind, _c.subject, _c.state).where(_c.kind.in_(TOLD))
    was = {(row.account, row.kind, row.subject): row.state for row in connection.execute(mails)}
    key, known = office_key(connection, office), confirmed(connection)
    for account, at, is_out in dated:
        what = OUT if is_out else COMES
        who = newest_contacts(connection, key, account).get(account) if (account, what, str(at)) not in was else None
        if who and who.mail and not who.paper and proof(key, "digest", account, who.mail) in known:
            add_mails(connection, what, [(account, str(at))], now)
    stand = {(account, str(at)) for account, at, _ in dated}
    for (account, kind, subject), state in was.items():
        if kind != MoveKind.BACK and int(subject) > quarter and (account, subject) not in stand:
            ours = (_c.account == account) & (_c.kind == kind) & (_c.subject == subject)
            if state == MailState.QUEUED:
                connection.execute(mail.delete().where(ours))
            else:
                add_mails(connection, MoveKind.BACK, [(account, subject)], now)


def take_due(connection: Connection, now: EpochSeconds, most: int) -> Sequence[Any]:
    """Return queued mails that are due, the oldest first; those that a crash interrupted become unknown."""
    connection.execute(update(mail).where(_c.state == MailState.SENDING).values(state=MailState.UNKNOWN))
    is_due = (_c.state == MailState.QUEUED) & (_c.due <= now)
    return connection.execute(select(mail).where(is_due).order_by(_c.no).limit(most)).all()


def move(connection: Connection, number: int, was: Iterable[MailState], values: Mapping[str, object]) -> bool:
    """Change a mail that is in one of some states; return whether it was."""
    ours = (_c.no == number) & _c.state.in_([*was])
    return connection.execute(update(mail).where(ours).values(dict(values))).rowcount == 1


def confirm(connection: Connection, digest: str) -> bool:
    """Mark an address as confirmed by its digest; return whether its account was asked for it."""
    ours = (_c.kind == CONFIRM) & (_c.subject == digest)
    return connection.execute(update(mail).where(ours).values(state=MailState.CONFIRMED)).rowcount == 1


def confirmed(connection: Connection) -> set[str]:
    """Return the digests of confirmed addresses."""
    return set(connection.scalars(select(_c.subject).where(_c.state == MailState.CONFIRMED)))


def count_mails(connection: Connection) -> Mapping[str, int]:
    """Return the number of mails by state."""
    return dict(connection.execute(select(_c.state, func.count()).group_by(_c.state)).all())


def troubled(connection: Connection, most: int) -> Sequence[Any]:
    """Return mails that a clerk has to look at, the newest first."""
    states = _c.state.in_((MailState.REFUSED, MailState.UNKNOWN, MailState.BOUNCED))
    return connection.execute(select(mail).where(states).order_by(_c.no.desc()).limit(most)).all()
