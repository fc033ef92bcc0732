"""Mails (pure): their states, what they say, and what proves that an address is a household's."""

import hmac
from email.message import EmailMessage
from enum import StrEnum

from commonwatt.model.units import AccountNumber, EpochSeconds
from utility.billing.documents.letter import Letter

BILL, REMINDER, CONFIRM = "bill", "reminder", "confirm"  # the kinds; the last asks whether the address is right
MOST_TRIES = 10  # of a mail that the server does not take for now; about 17 hours


class State(StrEnum):
    """How far a mail is."""

    QUEUED = "queued"  # it waits for its time
    SENDING = "sending"  # the mail server is being told; after a crash it is unknown
    SENT = "sent"  # the server took it
    REFUSED = "refused"  # the server does not take it, or there is no confirmed address any more
    UNKNOWN = "unknown"  # perhaps the server took it: it is not sent again by itself
    CONFIRMED = "confirmed"  # the household says that the address is right


def proof(key: bytes, what: str, account: AccountNumber, address: str) -> str:
    """Return what only the office can make of an account's mail address: its ``digest``, or the ``code`` of a link."""
    return hmac.digest(key, f"{what} {account} {address}".encode(), "sha256").hex()


def after(code: int, tries: int, now: EpochSeconds) -> tuple[State, EpochSeconds]:
    """Return the state of a mail that the server did not take, by its code, and when it is due again."""
    is_final = code >= 500 or tries >= MOST_TRIES
    return (State.REFUSED, now) if is_final else (State.QUEUED, now + 60 * 2**tries)


def message_of(kind: str, letter: Letter, paper: bytes, link: str) -> EmailMessage:
    """Return a mail in the language of its household, with the printed bill or a link."""
    assert letter.to is not None, "mails go to contacts"
    say, made = letter.writing.say, EmailMessage()
    subject, words = {
        BILL: (say("Your bill {number}", number=letter.number), say("Your bill is attached to this mail.")),
        REMINDER: (
            say("Reminder of the bill {number}", number=letter.number),
            say("This bill is overdue. It is attached again, with what is owed now."),
        ),
        CONFIRM: (say("Confirm this address"), say("Open this link if your bills shall come to this address:")),
    }[kind]
    made["From"], made["To"], made["Subject"] = letter.office.mail.sender, letter.to.mail, subject
    made.set_content("\n\n".join(filter(None, (words, link, letter.office.name))))
    if paper:
        made.add_attachment(paper, maintype="application", subtype="pdf", filename=f"{letter.reference}.pdf")
    return made
