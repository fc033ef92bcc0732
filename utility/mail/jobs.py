"""The job that sends mails: each at most once, whenever the program dies."""

import logging
import smtplib
import ssl
from contextlib import closing
from email.message import EmailMessage
from typing import Any

from commonwatt.model.exceptions import CommonwattError
from utility.billing.documents.statement import Letter, writing_of
from utility.billing.store.documents import RunDocuments, as_letters, documents_of_run
from utility.customers.store import newest_contacts, office_key
from utility.database.database import Database
from utility.database.town_zone import zone_of
from utility.jobs.plans import Threads
from utility.jobs.store import Turn
from utility.mail.message import CONFIRM, LOST, NO_SUCH_LETTERS, TAKEN, MailState, after, message_of, name_of, proof
from utility.mail.store import confirmed, move, take_due, tell_moves
from utility.moves.move import TOLD, day_of
from utility.settings import MailSettings, UtilitySettings
from utility.tariffs.store import bill_table

MOST = 50  # mails of a turn
WITHIN_S = 20.0  # real seconds within which the mail server has to answer

log = logging.getLogger(__name__)


async def send_mails(settings: UtilitySettings, database: Database, threads: Threads, turn: Turn) -> None:
    """Send what is due. That a mail is being sent is stored before the server hears of it.

    So a mail is sent again by itself only if the server says that it did not take it.
    """
    runs: dict[int, RunDocuments] = {}
    if settings.office.mail.host is not None:
        await threads.write(database.write, tell_moves, settings.office, turn.now)
    for row in await threads.write(database.write, take_due, turn.now, MOST):
        message = await threads.read(_message, settings, database, row, runs)
        begun = (
            {"state": MailState.REFUSED} if message is None else {"state": MailState.SENDING, "tries": row.tries + 1}
        )
        is_ours = await threads.write(database.write, move, row.no, [MailState.QUEUED], begun)
        if message is not None and is_ours:
            code = await threads.read(deliver, settings.office.mail, message)
            state, due = after(code, row.tries, turn.now)
            done = {"state": state, "due": due, "answer": max(code, 0)}
            await threads.write(database.write, move, row.no, [MailState.SENDING], done)


def _message(
    settings: UtilitySettings, database: Database, row: Any, runs: dict[int, RunDocuments]
) -> EmailMessage | None:
    """Return a mail; ``None``: it can't be made, its run was cancelled, or the account has no confirmed address."""
    # Loaded here: what draws PDFs takes 29 MB.
    from utility.billing.documents.pdf import as_pdf

    office, key, account = settings.office, database.read(office_key, settings.office), row.account
    try:
        if row.kind in (CONFIRM, *TOLD):
            to = database.read(newest_contacts, key, account).get(account)
            table = database.read(bill_table, settings.billing.tariff)
            writing = writing_of(table, to.language if to else "")
            when = "" if row.kind == CONFIRM else day_of(int(row.subject), database.read(zone_of))
            letter: Letter | None = Letter(writing=writing, number=when, reference="", office=office, to=to)
            paper, known = b"", {row.subject} if row.kind == CONFIRM else database.read(confirmed)
        else:
            number = int(row.subject.partition("/")[0])
            documents = runs.get(number) or documents_of_run(database, number, None)
            runs[number] = documents
            if documents.state != "issued":
                return None
            (statement,) = as_letters(database, settings, documents, documents.statements([account]))
            letter, paper, known = statement.letter, as_pdf(statement), database.read(confirmed)
        to = None if letter is None else letter.to
        if letter is None or to is None or to.paper or proof(key, "digest", account, to.mail) not in known:
            return None
        path = f"/console/mail/confirm/{account}/{proof(key, 'code', account, to.mail)}"
        path = f"/console/mail/confirm/{account}/{proof(key, 'code', account, to.mail)}"
        link = row.base + path if row.kind == CONFIRM else ""
        return message_of(row.kind, letter, to.mail, paper, link, name_of(key, row.no))
    except (CommonwattError, ValueError, LookupError) as error:
        log.warning("mail %s can't be made: %s", row.no, type(error).__name__)
        return None


def deliver(settings: MailSettings, message: EmailMessage) -> int:
    """Return the server's last code for a mail: ``TAKEN``, ``LOST``; 0: it did not hear of the mail."""
    is_told = False
    try:
        with closing(_connected(settings)) as server:
            is_told = True
            envelope = [f"ENVID={message['Message-ID'].partition('@')[0].strip('<')}"]
            server.ehlo_or_helo_if_needed()
            server.send_message(message, mail_options=envelope if server.has_extn("dsn") else ())
            return TAKEN
    except smtplib.SMTPNotSupportedError:
        return NO_SUCH_LETTERS if is_told else 0
    except smtplib.SMTPRecipientsRefused as error:
        return next(iter(error.recipients.values()))[0]
    except smtplib.SMTPResponseException as error:
        return error.smtp_code if is_told else 0
    except OSError:  # It is that of smtplib's other errors, too.
        return LOST if is_told else 0


def _connected(settings: MailSettings) -> smtplib.SMTP:
    host, context = settings.host or "", ssl.create_default_context()
    if settings.port == 465:
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, settings.port, timeout=WITHIN_S, context=context)
    else:
        server = smtplib.SMTP(host, settings.port, timeout=WITHIN_S)
        if not settings.plain_text:
            server.starttls(context=context)
    if settings.user:
        server.login(settings.user, settings.password.read_text().strip() if settings.password else "")
    return server
