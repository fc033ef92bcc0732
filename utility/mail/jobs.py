"""The job that sends mails: each at most once, whenever the program dies."""

import logging
import smtplib
import ssl
from email.message import EmailMessage
from typing import Any

from commonwatt.config.utility import MailSettings, UtilitySettings
from commonwatt.model.exceptions import CommonwattError
from utility.billing.documents.letter import Letter
from utility.billing.documents.writing import Writing
from utility.billing.store.bill_documents import RunDocuments, documents_of_run
from utility.billing.store.letters import as_letters
from utility.customers.store.contacts import contacts_at, office_key
from utility.database.database import Database
from utility.jobs.store.job_leases import Turn
from utility.jobs.threads import Threads
from utility.mail.message import CONFIRM, State, after, message_of, proof
from utility.mail.store import is_confirmed, move, take_due

MOST = 50  # mails of a turn
WITHIN_S = 20.0  # real seconds within which the mail server has to answer

log = logging.getLogger(__name__)


async def send_mails(settings: UtilitySettings, database: Database, threads: Threads, turn: Turn) -> None:
    """Send what is due. That a mail is being sent is stored before the server hears of it.

    So a mail is sent again by itself only if the server says that it did not take it.
    """
    rows = await threads.write(database.write, take_due, turn.now, MOST)
    runs: dict[int, RunDocuments] = {}
    for row in rows:
        message = await threads.read(_message, settings, database, row, runs)
        if message is None:
            await threads.write(database.write, move, row.no, [State.QUEUED], State.REFUSED)
            continue
        await threads.write(database.write, move, row.no, [State.QUEUED], State.SENDING)
        state, code = await threads.read(deliver, settings.office.mail, message)
        due = turn.now
        if state is State.QUEUED:
            state, due = after(code, row.tries, turn.now)
        values = {"answer": code, "tries": row.tries + 1, "due": due}
        await threads.write(database.write, move, row.no, [State.SENDING], state, values)


def _message(
    settings: UtilitySettings, database: Database, row: Any, runs: dict[int, RunDocuments]
) -> EmailMessage | None:
    """Return a mail; ``None``: it can't be made, or the account has no confirmed address any more."""
    # Loaded here: what draws PDFs takes 29 MB.
    from utility.billing.documents.pdf import as_pdf

    office, key, account = settings.office, office_key(settings.office), row.account
    try:
        if row.kind == CONFIRM:
            who = database.read(contacts_at, key, account=account).get(account)
            if who is None or proof(key, "digest", account, who.mail) != row.subject:
                return None
            letter = Letter(
                writing=Writing(language=who.language or "en"), number="", reference="", office=office, to=who
            )
            code = proof(key, "code", account, who.mail)
            return message_of(row.kind, letter, b"", f"{row.base}/console/mail/confirm/{account}/{code}")
        number = int(row.subject.partition("/")[0])
        if number not in runs:
            runs[number] = documents_of_run(database, number, None)
        documents = runs[number]
        (statement,) = as_letters(database, settings, documents, documents.statements([account]))
        found = statement.letter
        if found is None or found.to is None or found.to.paper:
            return None
        digest = proof(key, "digest", account, found.to.mail)
        is_right = database.read(is_confirmed, account, digest)
        return message_of(row.kind, found, as_pdf(statement), "") if is_right else None
    except (CommonwattError, ValueError) as error:
        log.warning("mail %s can't be made: %s", row.no, type(error).__name__)
        return None


def deliver(settings: MailSettings, message: EmailMessage) -> tuple[State, int]:
    """Return what became of a mail, with the last code of the server: sent, queued (it was not taken), unknown."""
    try:
        server = _connected(settings)
    except (OSError, smtplib.SMTPException) as error:
        return State.QUEUED, min(getattr(error, "smtp_code", 0), 499)  # a fault of ours, not of the mail
    try:
        server.send_message(message)
    except smtplib.SMTPRecipientsRefused as error:
        return State.QUEUED, next(iter(error.recipients.values()))[0]
    except smtplib.SMTPResponseException as error:
        return State.QUEUED, error.smtp_code
    except (OSError, smtplib.SMTPException):
        return State.UNKNOWN, 0
    finally:
        server.close()
    return State.SENT, 250


def _connected(settings: MailSettings) -> smtplib.SMTP:
    host, context = settings.host or "", ssl.create_default_context()
    if settings.port == 465:
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, settings.port, timeout=WITHIN_S, context=context)
    else:
        server = smtplib.SMTP(host, settings.port, timeout=WITHIN_S)
        if not settings.plain_text:
            server.starttls(context=context)
    if settings.user:
        server.login(settings.user, settings.password)
    return server
