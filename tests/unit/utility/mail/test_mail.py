"""Bills by mail, with a real mail server on a socket: only to confirmed addresses, each at most once."""

import asyncio
import os
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import select

from commonwatt.runtime.files import write_private
from harness.billing.worlds import World, found_in_store, tariff, world_of
from harness.console import Browser
from harness.network.waiting import free_port
from harness.surroundings.databases import begun_with
from tests.unit.utility.billing.test_billing import publish
from utility.access.people import Role
from utility.billing.store.run_bills import computed_run, prepared, saved
from utility.billing.store.runs import check_run, issue_run, stored_bills
from utility.billing.tables import bill_run
from utility.customers.people import Contact
from utility.customers.store import newest_contacts, office_key, set_contact
from utility.database.database import Database
from utility.jobs.plans import HERE, Period
from utility.jobs.store import Turn
from utility.mail import jobs
from utility.mail.jobs import send_mails
from utility.mail.message import CONFIRM, MOST_TRIES, REMINDER, MailState, proof
from utility.mail.store import add_mails
from utility.mail.tables import mail
from utility.settings import MailSettings, OfficeSettings, UtilitySettings

kind = pytest.fixture(lambda: "sqlite")

MONTH, NOW = "2026-10", 1_800_005_000
MAIL_SEEDS = int(os.environ.get("MAIL_SEEDS", "12"))  # orders of deaths; ``make soak`` has more


class Post:
    """A mail server that keeps what it took, and answers as a test says: code by address; 0: it hangs up."""

    def __init__(self) -> None:
        self.port = free_port()
        self.took: list[Message] = []
        self.answers: dict[str, int] = {}

    async def handle_RCPT(self, _: SMTP, __: Session, envelope: Envelope, address: str, *___: object) -> str:  # noqa: N802
        if self.answers.get(address):
            return f"{self.answers[address]} not now"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content
        assert isinstance(content, bytes)
        self.took.append(message_from_bytes(content))
        if self.answers.get(envelope.rcpt_tos[0]) == 0:
            assert server.transport is not None
            server.transport.close()
        return "250 OK"

    def counts(self) -> Counter[str]:
        """Return how many mails with a bill each address got."""
        return Counter(one["To"] for one in self.took if one.is_multipart())


@pytest.fixture
def post() -> Iterator[Post]:
    handler = Post()
    controller = Controller(handler, hostname="127.0.0.1", port=handler.port)
    controller.start()
    yield handler
    controller.stop()


@pytest.fixture
def settings(tmp_path: Path, post: Post) -> UtilitySettings:
    own = MailSettings(host="127.0.0.1", port=post.port, sender="office@town.example", plain_text=True)
    office = OfficeSettings(key=tmp_path / "key", name="Town", address=("1 Main St", "12345 Town"), mail=own)
    return UtilitySettings(second_factor="optional", office=office)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return found_in_store(monkeypatch, world_of())


@pytest.fixture
def accounts(database: Database, world: World, settings: UtilitySettings, tmp_path: Path) -> list[int]:
    """An issued run of bills; return its accounts, of which every one but the first two has a mail address."""

    file = settings.office.key
    assert file is not None

    def make() -> tuple[list[int], str]:
        publish(database, tariff())
        key = database.read(office_key, settings.office)
        numbers = sorted({h.account for m in world.inputs.registry.meters.values() for h in m.holdings})
        with database.writes.begin() as connection:
            for number in numbers[1:]:
                address = "" if number == numbers[1] else f"m{number}@home.example"
                who = Contact(name=f"Ana {number}", city="Town", mail=address, language="es")
                set_contact(connection, number, 0, who, key)
        run = saved(database, computed_run(database, prepared(database, MONTH, "town", NOW)), "anna", NOW)
        assert run is not None
        with database.writes.begin() as connection:
            check_run(connection, run, "anna", NOW)
            issue_run(connection, run, "ben", NOW)
            return sorted(stored_bills(connection, run)), file.read_text()

    billed, key = begun_with("an issued run of bills", tmp_path / "utility.db", make)
    write_private(file, key)
    return billed


def turn(database: Database, settings: UtilitySettings, now: int = NOW) -> None:
    period = Period(start=now, end=now + 60, name="")
    asyncio.run(send_mails(settings, database, HERE, Turn(job="mail", period=period, attempt=1, now=now)))


def states(database: Database) -> Counter[str]:
    with database.reads.begin() as connection:
        return Counter(f"{row.kind} {row.state}" for row in connection.execute(select(mail)))


def links(post: Post) -> list[str]:
    texts = [bytes(one.get_payload(decode=True)).decode() for one in post.took if not one.is_multipart()]
    return [path for text in texts for path in re.findall(r"https?://[^/]+(\S+)", text)]


@pytest.fixture
def confirmed(
    accounts: list[int], browser: Callable[..., Browser], database: Database, settings: UtilitySettings, post: Post
) -> list[int]:
    """Every address is confirmed, and the bills are queued; return the accounts with one."""
    clerk = browser(Role.CLERK)
    clerk.post("/console/mail", {"run": 1})
    turn(database, settings)
    for link in links(post):
        assert browser().post(link).status_code == 200
    clerk.post("/console/mail", {"run": 1})
    return accounts[2:]


def test_bills_go_only_to_addresses_that_their_households_confirmed(
    accounts: list[int], browser: Callable[..., Browser], database: Database, settings: UtilitySettings, post: Post
) -> None:
    clerk = browser(Role.CLERK)
    count = len(accounts) - 2
    assert f"0 bills by mail, {len(accounts)} on paper" in clerk.get("/console/mail?run=1").text
    clerk.post("/console/mail", {"run": 1})
    turn(database, settings)
    assert states(database) == {"confirm sent": count}
    assert not post.counts(), "no bill went to an address that was not confirmed"
    first, *_ = links(post)
    assert browser().post(first[:-1] + ("0" if first[-1] != "0" else "1")).status_code == 422, "a guess"
    assert "<form" in browser().get(first).text
    assert states(database) == {"confirm sent": count}, "to look at a link confirms nothing"
    browser().post(first)
    assert "1 bills by mail" in clerk.get("/console/mail?run=1").text
    clerk.post("/console/mail", {"run": 1})
    clerk.post("/console/mail", {"run": 1})
    turn(database, settings)
    turn(database, settings)
    (got,) = post.counts().items()
    assert got[1] == 1, "queued twice, sent once"
    bill = next(one for one in post.took if one.is_multipart())
    paper = next(part for part in bill.walk() if part.get_content_type() == "application/pdf")
    assert paper.get_payload(decode=True)[:4] == b"%PDF"  # type: ignore[index]
    assert "Su factura" in str(bill["Subject"]) or "=?utf-8?" in str(bill["Subject"])


def test_changed_address_is_unconfirmed_and_a_wish_for_paper_counts(
    confirmed: list[int], browser: Callable[..., Browser], database: Database, settings: UtilitySettings, post: Post
) -> None:
    moved, paper, *rest = confirmed
    with database.writes.begin() as connection:
        key = office_key(connection, settings.office)
        who = newest_contacts(connection, key, account=moved)[moved]
        set_contact(connection, moved, 1, replace(who, mail="new@home.example"), key)
    resident = browser(Role.RESIDENT, account=paper)
    assert 'name="paper" value="true"' in resident.get("/console/home/paper").text
    resident.post("/console/home/paper", {"paper": "true"})
    assert 'name="paper" value="false"' in resident.get("/console/home/paper").text
    turn(database, settings)
    assert post.counts() == {f"m{number}@home.example": 1 for number in rest}
    assert states(database)["bill refused"] == 2


def test_what_a_server_refuses_is_shown_and_what_it_puts_off_is_tried_again(
    confirmed: list[int], browser: Callable[..., Browser], database: Database, settings: UtilitySettings, post: Post
) -> None:
    never, later, silent, *rest = (f"m{number}@home.example" for number in confirmed)
    post.answers = {never: 550, later: 450, silent: 0}
    turn(database, settings)
    assert states(database)["bill refused"] == states(database)["bill queued"] == states(database)["bill unknown"] == 1
    text = browser(Role.CLERK).get("/console/mail").text
    assert "550" in text
    assert "perhaps it was sent" in text
    assert "home.example" not in text, "no address on a page of the queue"
    now = NOW
    for _ in range(MOST_TRIES):
        now += 10**6
        turn(database, settings, now)
    assert states(database)["bill queued"] == 0
    assert states(database)["bill refused"] == 2, "after ten tries"
    assert post.counts() == {silent: 1} | dict.fromkeys(rest, 1)
    post.answers = {}
    with database.reads.begin() as connection:
        unknown = connection.execute(select(mail.c.no).where(mail.c.state == MailState.UNKNOWN)).scalar_one()
    browser(Role.CLERK).post(f"/console/mail/{unknown}/again")
    turn(database, settings, now)
    assert post.counts()[silent] == 2, "a clerk said so"


def test_mail_server_that_is_not_there_loses_nothing(
    confirmed: list[int], database: Database, settings: UtilitySettings, post: Post
) -> None:
    away = settings.office.mail.model_copy(update={"port": 1})
    office = settings.office.model_copy(update={"mail": away})
    turn(database, settings.model_copy(update={"office": office}))
    assert states(database)["bill queued"] == len(confirmed)
    turn(database, settings, NOW + 3_600)
    assert post.counts() == {f"m{number}@home.example": 1 for number in confirmed}


def test_reminder_goes_once_for_each_level_with_the_bill(
    confirmed: list[int], database: Database, settings: UtilitySettings, post: Post
) -> None:
    turn(database, settings)
    post.took.clear()
    with database.writes.begin() as connection:
        for subject in ("1/1", "1/1", "1/2"):
            add_mails(connection, REMINDER, [(confirmed[0], subject)], NOW)
    turn(database, settings)
    turn(database, settings)
    assert post.counts() == {f"m{confirmed[0]}@home.example": 2}
    subjects = {str(make_header(decode_header(str(one["Subject"])))) for one in post.took}
    assert subjects == {f"Recordatorio de la factura {MONTH}/1-{confirmed[0]}"}


def test_server_that_takes_no_such_letters_refuses_the_mail(
    confirmed: list[int], browser: Callable[..., Browser], database: Database, settings: UtilitySettings
) -> None:
    account, *_ = confirmed
    plain = Post()
    controller = Controller(plain, hostname="127.0.0.1", port=plain.port, enable_SMTPUTF8=False)
    controller.start()
    with database.writes.begin() as connection:
        key = office_key(connection, settings.office)
        who = replace(newest_contacts(connection, key, account)[account], mail="jürgen@home.example")
        set_contact(connection, account, 0, who, key)
        digest = proof(key, "digest", account, who.mail)
        add_mails(connection, CONFIRM, [(account, digest)], NOW)
        connection.execute(mail.update().where(mail.c.subject == digest).values(state=MailState.CONFIRMED))
    own = settings.office.mail.model_copy(update={"port": plain.port})
    office = settings.office.model_copy(update={"mail": own})
    turn(database, settings.model_copy(update={"office": office}))
    controller.stop()
    assert states(database)["bill refused"] == 1
    assert states(database)["bill unknown"] == 0
    assert "5.6.7 content" in browser(Role.CLERK).get("/console/mail").text


def returned(named: str, action: str = "failed", status: str = "5.1.1", kind: str = "text/rfc822-headers") -> str:
    """Return a notification about a mail as servers write it, with an address in the reason."""
    return f"""From: MAILER-DAEMON@relay.example
To: office@town.example
Message-ID: <1@relay.example>
Subject: Undelivered Mail Returned to Sender
Content-Type: multipart/report; report-type=delivery-status; boundary="B"
MIME-Version: 1.0

--B
Content-Type: text/plain

I could not deliver it to <m7@home.example>.
--B
Content-Type: message/delivery-status

Reporting-MTA: dns; relay.example

Original-Recipient: rfc822;m7@home.example
Final-Recipient: rfc822; m7@home.example
Action: {action}
Status: {status}
Diagnostic-Code: smtp; 550 5.1.1 <m7@home.example>: no such user

--B
Content-Type: {kind}

{named}
Subject: Su factura

--B--
"""


def test_a_mail_that_came_back_is_shown_with_its_status(
    confirmed: list[int],
    browser: Callable[..., Browser],
    database: Database,
    settings: UtilitySettings,
    post: Post,
    tmp_path: Path,
) -> None:
    turn(database, settings)
    clerk = browser(Role.CLERK)

    def give(text: str) -> tuple[int, str]:
        answer = clerk.post("/console/mail/bounced", {}, files={"file": ("back.eml", text.encode())})
        return answer.status_code, answer.text

    first, second, *rest = (one["Message-ID"] for one in post.took if one.is_multipart())
    assert rest, "a bill is left"
    assert give(returned(f"Message-ID: {first}"))[0] == 303
    assert give(returned(f"Message-ID: {second}", status="5.2.2 (full)", kind="message/rfc822"))[0] == 303
    envelope = returned("X: y").replace(
        "Reporting-MTA", f"Original-Envelope-Id: {rest[0][1:].split('@')[0]}\nReporting-MTA"
    )
    assert give(envelope.replace("\n", "\r\n"))[0] == 303
    assert states(database)["bill bounced"] == 3
    text = clerk.get("/console/mail").text
    assert "5.1.1 address" in text
    assert "5.2.2 mailbox" in text
    assert b"m7@home" not in b"".join(path.read_bytes() for path in tmp_path.glob("utility.db*"))
    guess = first.replace(first[3:20], "0" * 17)
    nested = "".join(f'Content-Type: multipart/mixed; boundary="{n}"\n\n--{n}\n' for n in range(3_000))
    for text, words in [
        (returned(f"Message-ID: {first}"), "is not one that was sent"),
        (returned(f"Message-ID: {guess}"), "about no mail that this office sent"),
        (returned("X: y"), "about no mail that this office sent"),
        (returned(f"Message-ID: {second}", action="delayed"), "does not say that the mail failed"),
        (f"Message-ID: {second}\n\nHello", "no notification about a mail"),
        ("", "is empty"),
        ("\0\xff" * 1000, "no notification about a mail"),
        (nested, "no notification about a mail"),
    ]:
        status, said = give(text)
        assert (status, words in said) == (422, True), said
    assert browser(Role.ADMIN).post("/console/mail/bounced", {}, files={"file": ("x", b"")}).status_code == 403


class KilledError(BaseException):
    """The program dies here: nothing after it runs."""


def test_program_that_dies_anywhere_sends_no_mail_twice_and_loses_none(
    confirmed: list[int], database: Database, settings: UtilitySettings, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver, write, queued, deaths = jobs.deliver, Database.write, mail.c.kind == "bill", 0
    for seed in range(MAIL_SEEDS):
        post.took.clear()
        with database.writes.begin() as connection:
            connection.execute(mail.update().where(queued).values(state=MailState.QUEUED, tries=0, due=NOW))
        chance = random.Random(seed)

        def dying(work: Callable[..., Any], chance: random.Random) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                if chance.random() < 0.15:
                    raise KilledError
                done = work(*arguments, **named)
                if chance.random() < 0.15:
                    raise KilledError
                return done

            return call

        with monkeypatch.context() as patch:
            patch.setattr(jobs, "deliver", dying(deliver, chance))
            patch.setattr(Database, "write", dying(write, chance))
            for _ in range(30):
                try:
                    turn(database, settings)
                except KilledError:
                    deaths += 1
        turn(database, settings, NOW + 86_400)  # Also what a server on a slow machine put off.
        assert max(post.counts().values(), default=0) <= 1
        found = states(database)
        assert found["bill sent"] + found["bill unknown"] == len(confirmed), "every bill has an end that a clerk sees"
        assert found["bill sent"] <= sum(post.counts().values())
    assert deaths > 4 * MAIL_SEEDS


def test_no_address_is_in_the_log_or_in_the_database_file(
    confirmed: list[int],
    database: Database,
    settings: UtilitySettings,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    turn(database, settings)
    files = b"".join(path.read_bytes() for path in tmp_path.glob("utility.db*"))
    assert b"home.example" not in files
    assert "home.example" not in caplog.text


def test_bill_of_a_cancelled_run_is_not_sent(
    confirmed: list[int], database: Database, settings: UtilitySettings, post: Post
) -> None:
    with database.writes.begin() as connection:
        connection.execute(bill_run.update().values(state="cancelled"))
    turn(database, settings)
    assert not post.counts()
    assert states(database)["bill refused"] == len(confirmed)


def test_mail_that_another_process_sends_is_not_sent_twice(
    confirmed: list[int],
    database: Database,
    settings: UtilitySettings,
    post: Post,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = jobs._message

    def slowly(*given: Any) -> Any:
        monkeypatch.setattr(jobs, "_message", made)
        other = threading.Thread(target=turn, args=(database, settings))  # the lease of this process has expired
        other.start()
        other.join()
        return made(*given)

    monkeypatch.setattr(jobs, "_message", slowly)
    turn(database, settings)
    assert post.counts() == {f"m{number}@home.example": 1 for number in confirmed}


def test_wish_for_paper_is_of_who_the_account_is_now(
    confirmed: list[int], browser: Callable[..., Browser], database: Database, settings: UtilitySettings
) -> None:
    (account, *_), key, soon = confirmed, database.read(office_key, settings.office), 2_100_000
    with database.writes.begin() as connection:
        who = Contact(name="Heir", mail="heir@home.example")
        set_contact(connection, account, soon, who, key)
    resident = browser(Role.RESIDENT, account=account)
    assert "heir@home.example" not in resident.get("/console/home/paper").text
    resident.post("/console/home/paper", {"paper": "true"})
    with database.reads.begin() as connection:
        now, later = (newest_contacts(connection, key, account, at)[account] for at in (soon - 1, soon))
    assert (now.mail, now.paper) == (f"m{account}@home.example", True)
    assert later == who


def test_a_household_that_moves_is_told_once_and_again_if_it_is_taken_back(
    confirmed: list[int], browser: Callable[..., Browser], database: Database, settings: UtilitySettings, post: Post
) -> None:
    turn(database, settings)
    clerk, account = browser(Role.CLERK), confirmed[0]
    page = f"/console/accounts/{account}"
    before = len(post.took)
    assert clerk.post(page, {"kind": "empty", "at": "2027-12-15", "action": "do"}).status_code == 303
    turn(database, settings)
    turn(database, settings)
    (told,) = post.took[before:]
    assert (told["To"], told["Subject"]) == (f"m{account}@home.example", "Se muda el 2027-12-15")
    assert clerk.post(page, {"kind": "back"}).status_code == 303
    turn(database, settings)
    turn(database, settings)
    (back,) = post.took[before + 1 :]
    assert str(make_header(decode_header(back["Subject"]))) == "Su mudanza del 2027-12-15 está anulada"
    # A move that is taken back before the next turn was told to no household: no mail follows.
    clerk.post(page, {"kind": "empty", "at": "2027-12-16", "action": "do"})
    clerk.post(page, {"kind": "back"})
    turn(database, settings)
    assert len(post.took) == before + 2
