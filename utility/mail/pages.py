"""Mail: what a run's bills would do, what became of mails, the link of an address, and a household's wish for paper."""

import hmac
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Path, Query, Request, Response, UploadFile

from commonwatt.look.writing import NAMES
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import AccountNumber, Quarter, quarter_of
from utility.access.store.access import find_person
from utility.customers.people import Contact
from utility.customers.store import newest_contacts, office_key, set_contact
from utility.database.base import Connection
from utility.mail import store
from utility.mail.message import BILL, CONFIRM, MailState, bounced, proof, reason_of
from utility.webkit.console.answers import ROWS, Number, content_of, refusing
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.requests import changing
from utility.webkit.rights import OPEN, ReadsOwnHome, SendsMail, require_own_origin

Run = Annotated[int, Query(ge=0, lt=2**31, description="A run of bills; 0: none.")]
MAX_BYTES = 10_000_000  # bytes of a mail that came back
Code = Annotated[str, Path(max_length=64)]


router = APIRouter(include_in_schema=False)


@router.get("/console/mail")
def shown(console: RequestConsole, request: Request, actor: SendsMail, run: Run = 0) -> Response:
    """Show what became of mails, and how a run's bills would reach their households."""
    with refusing(422), console.database.reads.begin() as connection:
        office = console.api.settings.office
        plan = store.plan_of(connection, office, run) if run and office.mail.host else None
        counts, rows = store.count_mails(connection), store.troubled(connection, ROWS)
    content = {"run": run, "plan": plan, "counts": counts, "rows": rows, "reason_of": reason_of}
    content["is_set"] = office.mail.host is not None
    return console.page(request, actor, "mail.html", content)


@router.post("/console/mail")
def queue(
    console: RequestConsole, request: Request, actor: SendsMail, run: Annotated[int, Form(ge=1, lt=2**31)]
) -> Response:
    """Queue the bills of an issued run, and ask new addresses whether they are right."""
    with changing(console.api, request, actor) as by:
        mailed, asked, _ = store.plan_of(by.connection, console.api.settings.office, run)
        store.add_mails(by.connection, BILL, mailed, by.now)
        store.add_mails(by.connection, CONFIRM, asked, by.now, f"{request.url.scheme}://{request.url.netloc}")
        by.record("mail.run", f"run {run}", after={"mailed": len(mailed), "asked": len(asked)})
    return console.see_other(actor, f"/console/mail?run={run}", f"{len(mailed)} bills are queued.")


@router.post("/console/mail/{number}/again")
def again(console: RequestConsole, request: Request, actor: SendsMail, number: Number) -> Response:
    """Queue a mail again that was refused or came back, or of which it is not known whether it was sent."""
    with changing(console.api, request, actor) as by:
        was = (MailState.REFUSED, MailState.UNKNOWN, MailState.BOUNCED)
        if not store.move(by.connection, number, was, {"state": MailState.QUEUED, "due": by.now, "tries": 0}):
            raise ConfigError(f"mail {number} is not refused, unknown or bounced")
        by.record("mail.again", f"mail {number}")
    return console.see_other(actor, "/console/mail", f"Mail {number} is queued again.")


@router.post("/console/mail/bounced")
def returned(console: RequestConsole, request: Request, actor: SendsMail, file: UploadFile) -> Response:
    """Note that a mail came back, as a delivery status notification says."""
    with changing(console.api, request, actor) as by:
        content = content_of(file, MAX_BYTES)
        number, answer = bounced(office_key(by.connection, console.api.settings.office), content)
        values = {"state": MailState.BOUNCED, "answer": answer}
        if not store.move(by.connection, number, (MailState.SENT, MailState.UNKNOWN), values):
            raise ConfigError(f"mail {number} is not one that was sent")
        by.record("mail.bounce", f"mail {number}")
    return console.see_other(actor, "/console/mail", f"Mail {number} came back: {reason_of(answer)}.")


def _known(
    console: Console, connection: Connection, account: AccountNumber | None, quarter: Quarter | None = None
) -> tuple[Contact, bytes]:
    key = office_key(connection, console.api.settings.office)
    return newest_contacts(connection, key, account or 0, quarter).get(account or 0, Contact(name="")), key


@router.get("/console/mail/confirm/{account}/{code}", dependencies=[OPEN])
def ask(console: RequestConsole, request: Request, account: Number, code: Code) -> Response:
    """Show the button: programs that look at links of mails press none."""
    content = {"path": f"/console/mail/confirm/{account}/{code}", "reader": console.reader(request, None, account)}
    return console.page(request, None, "mail_confirm.html", content)


@router.post("/console/mail/confirm/{account}/{code}", dependencies=[OPEN])
def confirm(console: RequestConsole, request: Request, account: Number, code: Code) -> Response:
    """Confirm the address of an account by the code of its link."""
    require_own_origin(request)
    with refusing(422), console.database.writes.begin() as connection:
        who, key = _known(console, connection, account)
        is_right = hmac.compare_digest(proof(key, "code", account, who.mail).encode(), code.encode())
        if not (who.mail and is_right and store.confirm(connection, proof(key, "digest", account, who.mail))):
            raise ConfigError("this link is of an address that the account does not have any more")
    reader = console.reader(request, None, account)
    return console.page(request, None, "mail_confirm.html", {"path": "", "reader": reader})


@router.get("/console/home/paper")
def wish(console: RequestConsole, request: Request, actor: ReadsOwnHome) -> Response:
    """Return the forms of language and of paper, a part of the settings, as far as the office knows the people."""
    who, _ = console.database.read(partial(_known, console), actor.account, quarter_of(console.now()))
    chooses = bool(who.name) or console.api.settings.site is not None
    return console.fragment(request, actor, "home_paper.html", {"who": who, "chooses": chooses, "languages": NAMES})


@router.post("/console/home/paper")
def choose(
    console: RequestConsole, request: Request, actor: ReadsOwnHome, paper: Annotated[bool, Form()] = False
) -> Response:
    """Have the own bills on paper, or by mail again."""
    with changing(console.api, request, actor) as by:
        who, key = _known(console, by.connection, actor.account, quarter_of(by.now))
        if not who.mail:
            raise ConfigError("the office has no mail address of this account")
        set_contact(by.connection, actor.account or 0, quarter_of(by.now), replace(who, paper=paper), key)
    return console.see_other(actor, "/console/settings", f"Your bills come {'on paper' if paper else 'by mail'}.")


@router.post("/console/home/language")
def speak(
    console: RequestConsole,
    request: Request,
    actor: ReadsOwnHome,
    language: Annotated[Literal["en", "de", "es"], Form()],
) -> Response:
    """Have the own pages, bills and mails in a language."""
    with changing(console.api, request, actor) as by:
        who, key = _known(console, by.connection, actor.account, quarter_of(by.now))
        person = find_person(by.connection, actor.name)
        if not who.name and person and console.api.settings.site is not None:
            who = replace(who, name=person.display)  # a street has no office
        if not who.name:
            raise ConfigError("the office does not know who has this account, so it keeps no language")
        set_contact(by.connection, actor.account or 0, quarter_of(by.now), replace(who, language=language), key)
    return console.see_other(actor, "/console/settings", "Your language is set.")
