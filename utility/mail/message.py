"""Mails (pure): their states, what they say, and what proves that an address is a household's."""

import hmac
from email.message import EmailMessage
from enum import StrEnum

from commonwatt.model.units import AccountNumber, EpochSeconds
from utility.billing.documents.letter import Letter

BILL, REMINDER, CONFIRM = "bill", "reminder", "confirm"  # the kinds; the last asks whether the address is right
TEXTS = {
    BILL: ("Your bill {number}", "Your bill is attached to this mail."),
    REMINDER: (
        "Reminder of the bill {number}", "This bill is overdue. It is attached again, with what is owed now."
    ),
    CONFIRM: ("Confirm this address", "Open this link if your bills shall come to this address:"),
}  # fmt: skip
"""The subject and the words of each kind, in English, as in the catalogue."""
MOST_TRIES = 10  # of a mail that the server does not take for now; about 17 hours
TAKEN, LOST = 250, -1  # of the codes of a mail server: it took the mail; its answer was lost


class State(StrEnum):
    """How far a mail is."""

    QUEUED = "queued"  # it waits for its time
    SENDING = "sending"  # the mail server is being told; after a crash it is unknown
    SENT = "sent"  # the server took it
    REFUSED = "refused"  # the server does not take it, or there is no confirmed address any more
    UNKNOWN = "unknown"  # perhaps the server took it: it is not sent again by itself
    CONFIRMED = "confirmed"  # the household says that the address is right


def after(code: int, tries: int, now: EpochSeconds) -> tuple[State, EpochSeconds]:
    """Return the state of a mail after the code of a server, 0 if there was none, and when it is due again."""
    if code in (TAKEN, LOST):
        return (State.SENT if code == TAKEN else State.UNKNOWN), now
    return (State.REFUSED if code >= 500 or tries >= MOST_TRIES else State.QUEUED), now + 60 * 2**tries


def proof(key: bytes, what: str, account: AccountNumber, address: str) -> str:
    """Return what only the office can make of an account's mail address: its ``digest``, or the ``code`` of a link."""
    return hmac.digest(key, f"{what} {account} {address}".encode(), "sha256").hex()


def message_of(kind: str, letter: Letter, address: str, paper: bytes, link: str) -> EmailMessage:
    """Return a mail in the language of its household, with the printed bill or a link."""
    made, (subject, words) = EmailMessage(), TEXTS[kind]
    made["From"], made["To"] = letter.office.mail.sender, address
    made["Subject"] = letter.writing.say(subject, number=letter.number)
    made.set_content("\n\n".join(filter(None, (letter.writing.say(words), link, letter.office.name))))
    if paper:
        made.add_attachment(paper, maintype="application", subtype="pdf", filename=f"{letter.reference}.pdf")
    return made
