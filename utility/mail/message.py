"""Mails (pure): their states, what they say, what came back, and what proves that an address is a household's."""

import hmac
import re
from email import message_from_bytes, message_from_string
from email.message import EmailMessage
from enum import StrEnum

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import AccountNumber, EpochSeconds
from utility.billing.documents.statement import Letter
from utility.moves.move import TOLD

BILL, REMINDER, CONFIRM = "bill", "reminder", "confirm"  # the kinds; the last asks whether the address is right
TEXTS = {
    BILL: ("Your bill {number}", "Your bill is attached to this mail."),
    REMINDER: (
        "Reminder of the bill {number}", "This bill is overdue. It is attached again, with what is owed now."
    ),
    CONFIRM: ("Confirm this address", "Open this link if your bills shall come to this address:"),
    **TOLD,
}  # fmt: skip
"""The subject and the words of each kind, in English, as in the catalogue."""
MOST_TRIES = 10  # of a mail that the server does not take for now; about 17 hours
TAKEN, LOST = 250, -1  # of the codes of a mail server: it took the mail; its answer was lost
NO_SUCH_LETTERS = 5_006_007  # the status 5.6.7: the server takes no address with such letters
_ABOUT = ("", "address", "mailbox", "mail server", "network", "protocol", "content", "policy")  # by a status's second


class MailState(StrEnum):
    """How far a mail is."""

    QUEUED = "queued"  # it waits for its time
    SENDING = "sending"  # the mail server is being told; after a crash it is unknown
    SENT = "sent"  # the server took it
    REFUSED = "refused"  # the server does not take it, or there is no confirmed address any more
    UNKNOWN = "unknown"  # perhaps the server took it: it is not sent again by itself
    BOUNCED = "bounced"  # the server took it, and it came back later
    CONFIRMED = "confirmed"  # the household says that the address is right


def after(code: int, tries: int, now: EpochSeconds) -> tuple[MailState, EpochSeconds]:
    """Return the state of a mail after the code of a server, 0 if there was none, and when it is due again."""
    if code in (TAKEN, LOST):
        return (MailState.SENT if code == TAKEN else MailState.UNKNOWN), now
    return (MailState.REFUSED if code >= 500 or tries >= MOST_TRIES else MailState.QUEUED), now + 60 * 2**tries


def proof(key: bytes, what: str, account: AccountNumber, address: str) -> str:
    """Return what only the office can make of an account's mail address: its ``digest``, or the ``code`` of a link."""
    return hmac.digest(key, f"{what} {account} {address}".encode(), "sha256").hex()


def name_of(key: bytes, number: int) -> str:
    """Return what stands before the ``@`` of the id of a mail; the office alone can make it."""
    return f"{number}.{proof(key, 'mail', number, '')}"


def reason_of(answer: int) -> str:
    """Return an answer in words: the code of a mail server, or the status of RFC 3463 and what it is about."""
    kind, about, detail = answer // 10**6, answer // 1000 % 1000, answer % 1000
    return f"{kind}.{about}.{detail} {dict(enumerate(_ABOUT)).get(about, '')}".strip() if kind else str(answer)


def bounced(key: bytes, content: bytes) -> tuple[int, int]:
    """Return the number of the mail that a delivery status notification (RFC 3464) is about, and its status."""
    try:
        parts = [*message_from_bytes(content).walk()]
    except RecursionError:
        parts = []
    reports = [part for part in parts if "Action" in part and "Status" in part]
    if not reports:
        raise ConfigError("the file is no notification about a mail (RFC 3464): save the whole mail as .eml")
    if "failed" not in [str(each["Action"]).strip().lower() for each in reports]:
        raise ConfigError("the notification does not say that the mail failed")
    parts += [message_from_string(str(p.get_payload())) for p in parts if p.get_content_type() == "text/rfc822-headers"]
    names = " ".join(str(each[name]) for each in parts for name in ("Message-ID", "Original-Envelope-Id"))
    for name in re.findall(r"\b[0-9]{1,9}\.[0-9a-f]{64}\b", names):
        number = int(name.partition(".")[0])
        if hmac.compare_digest(name, name_of(key, number)):
            status = re.match(r"\s*5\.(\d{1,3})\.(\d{1,3})", str(reports[0]["Status"]))
            return number, 5_000_000 + int(status[1]) * 1000 + int(status[2]) if status else 5_000_000
    raise ConfigError("the notification is about no mail that this office sent")


def message_of(kind: str, letter: Letter, address: str, paper: bytes, link: str, name: str) -> EmailMessage:
    """Return a mail in the language of its household, with the printed bill or a link; its id begins with a name."""
    made, (subject, words) = EmailMessage(), TEXTS[kind]
    made["From"], made["To"] = letter.office.mail.sender, address
    made["Message-ID"] = f"<{name}@{letter.office.mail.sender.rpartition('@')[2].strip('> ')}>"
    made["Subject"] = letter.writing.say(subject, number=letter.number)
    made.set_content("\n\n".join(filter(None, (letter.writing.say(words), link, letter.office.name))))
    if paper:
        made.add_attachment(paper, maintype="application", subtype="pdf", filename=f"{letter.reference}.pdf")
    return made
