"""A year of a small town's office, from the console's pages alone; the ledger balances to the cent after every step.

People follow the links and fill in the forms of the pages that they see (``harness.office.desk``). After each step a
program that imports nothing of the utility compares the ledger's exports with the bills and the bank's bookings.
"""

import asyncio
import csv
import io
import json
import logging
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, redirect_stderr
from decimal import Decimal
from email.message import Message
from pathlib import Path
from xml.etree import ElementTree

import pytest
from aiosmtpd.controller import Controller

from harness import green_button
from harness.commands import WHO, run_as
from harness.console import Browser
from harness.ledger.checker import faults
from harness.office.desk import Desk
from harness.office.town import Bank, OfficeTown, reference
from tests.unit.utility.mail.test_mail import Post
from utility.access.people import Role
from utility.assembly.backup.backup import copy
from utility.billing.store.runs import bills_of_run
from utility.jobs.plans import HERE, Period
from utility.jobs.store import Turn
from utility.ledger.store import remind
from utility.mail.jobs import send_mails

SIGN = "Canarius"  # in each name, street and mail address; nothing else has it
IBANS = {2: "DE02120300000000202051", 3: "DE02500105170137075030"}
ACCOUNTS = range(1, 21)
DEBIT, LATE = 2, 5  # the account with a mandate; the one that does not pay
MOVED, EMPTY, HEIRS = 3, 7, 12  # the accounts that move out, leave an empty home, and have heirs
MONTHS = ("2025-12", *(f"2026-{n:02}" for n in range(1, 13)), "2027-01", "2027-02")
COLUMNS = "account,from,name,street,postcode,city,country,mail,language,paper,iban,mandate,mandate_day"

TARIFF = """
[tariff]
name = "town"
text = "Everybody's rates"
timezone = "Europe/Vienna"
effective = 2026-01-01
base = "6.00"
[policy]
name = "spec"
[bill]
currency = "EUR"
numbers = "1.234,56"
language = "de"
[[tax]]
name = "VAT"
percent = "10"
[[reminder]]
days = 7
[[reminder]]
days = 14
fee = "5.00"
[[period]]
name = "all"
import = "0.3200"
credit = "0.1600"
[[hours]]
period = "all"
days = ["weekday", "weekend", "holiday"]
from = "00:00"
until = "24:00"
"""
LEVY = '[[tax]]\nname = "levy"\nper_kwh = "0.01"\n[[reminder]]'


class Year:
    """The office's year."""

    def __init__(self, town: OfficeTown, post: Post) -> None:
        self.town, self.bank, self.post = town, Bank(), post
        self.clara = town.person("clara", Role.CLERK, Role.APPROVER)
        self.carl = town.person("carl", Role.CLERK)
        self.anton = town.person("anton", Role.APPROVER)
        self.root = town.person("root", Role.ADMIN)
        self.commands: set[tuple[str, ...]] = set()  # commands that refused the same person
        self.refused = 0  # how often one person was refused to be both of two
        self.steps: dict[str, list[str]] = {}  # what the checker found after each step
        self.closed: dict[str, bytes] = {}  # exports of closed months
        self.runs: dict[int, str] = {}  # issued runs, and their states
        self.months: dict[int, str] = {}  # months of issued runs
        self.bills: dict[int, dict[int, int]] = {}  # cents by run and account
        self.taxes: dict[int, dict[int, int]] = {}  # of them taxes

    def step(self, name: str) -> None:
        """Check the ledger with the files that a stranger has."""
        files = {month: self.export(month) for month in MONTHS if month > max(self.closed, default="")} | self.closed
        exports = {month: list(csv.DictReader(io.StringIO(content.decode()))) for month, content in files.items()}
        bills = [
            {
                "run": str(run),
                "account": str(account),
                "cents": str(cents),
                "taxes": str(taxes),
                "state": self.runs[run],
            }
            for run, of in self.bills.items()
            for account, cents in of.items()
            for taxes in [self.taxes[run][account]]
        ]
        self.steps[name] = faults(exports, bills, self.bank.rows())
        assert not self.steps[name], name

    def export(self, month: str) -> bytes:
        """Return the ledger's export of a month."""
        return self.anton.get_file(f"/console/ledger/months/{month}.csv")

    def morning(self, text: str) -> None:
        """Begin a day; the service makes its reminders."""
        self.town.morning(text)
        self.town.database.write(remind, "town", self.town.now())

    def by_second(self, path: str, api: str = "", command: tuple[str, ...] = (), **fields: str) -> None:
        """Try a second person's decision as the first person, by the console, the API and once the command: refused."""
        answers = [self.clara.again(path, fields)]
        answers += [self.clara.again(f"{api}", {})] if api else []
        for answer in answers:
            assert answer.status_code == 409, (path, answer.status_code, answer.text[:300])
            assert "second person" in answer.text or "another person" in answer.text, answer.text
            self.refused += 1
        kind = tuple(word.partition("/")[0] for word in command[:2])
        if command and kind not in self.commands:
            self.commands.add(kind)
            with redirect_stderr(io.StringIO()) as said, pytest.raises(SystemExit):
                run_as(self.town.config, *command, WHO, "clara")
            assert "a second person" in said.getvalue(), said.getvalue()

    def publish(self, source: str) -> None:
        """Publish a version of the tariff."""
        self.clara.go("Billing", "Rates", "New prices").send("The text, for experts")
        self.clara.send("Propose", {"The tariff": source})
        version = re.search(r"town v(\d+) is proposed", self.clara.text)
        assert version, self.clara.text
        path = f"rates/version/town/{version[1]}"
        route = f"tariffs/town/{version[1]}/approve"
        self.by_second(f"/console/{path}/approve", f"/{route}", ("do", route))
        self.anton.go("Billing", "Rates").click(f"town v{version[1]}").send("Approve and publish")
        assert "is published" in self.anton.text

    def issue(self, month: str) -> int:
        """Make, check and issue a month's bills; return the run's number."""
        self.clara.go("Billing").send("Make a draft", {"Month": month}).wait()
        number = int(re.search(r"/console/runs/(\d+)", self.clara.page.address)[1])  # type: ignore[index]
        self.clara.send("Check").wait()
        self.by_second(f"/console/runs/{number}/issue", f"/runs/{number}/issue", ("do", f"runs/{number}/issue"))
        self.anton.go("Billing").click(str(number), before="/console/runs").send("Issue")
        assert f"run {number} is issued" in self.anton.text
        rows = json.loads(self.anton.get_file(f"/runs/{number}/bills"))["bills"]
        self.runs[number], self.months[number] = "issued", month
        self.bills[number] = {row["account"]: round(float(row["total"]) * 100) for row in rows}
        self.taxes[number] = {
            bill.account: sum(round(100 * x.amount) if x.kind == "tax" else x.tax_cents for x in bill.lines)
            for bill in self.town.database.read(bills_of_run, number)
        }
        return number

    def enter(self, account: int, kind: str, amount: str, why: str) -> None:
        """Enter goodwill, a fee or a credit note, by two people."""
        self.clara.go("Billing", "Bills").send("Find", {"Account": account}).click(
            "Enter goodwill, a fee or a credit note"
        )
        self.clara.send("Enter", {"Kind": kind, "EUR": amount, "Why": why})
        self.approve_entry(why)

    def approve_entry(self, why: str) -> None:
        """Approve the entry that waits."""
        number = re.search(r"entry (\d+) waits", self.clara.text)
        assert number, self.clara.text
        route = f"entries/{number[1]}/approve"
        self.by_second(f"/console/{route}", f"/{route}", ("do", route))
        self.anton.go("Billing", "Entries").send("Approve", around=why)
        assert f"entry {number[1]} is approved" in self.anton.text

    def take_in(self, *which: str) -> str:
        """Import a statement of the bank; return what the page says of it."""
        self.carl.go("Billing", "Ledger").send("Import", {"A bank's file": ("bank.xml", self.bank.statement(*which))})
        said = re.search(r"assigned (\d+) waiting (\d+) there already (\d+) left out (\d+)", self.carl.text)
        assert said, self.carl.text
        return " ".join(said.groups())

    def pay(self, run: int, day: str, *, but: tuple[int, ...] = ()) -> list[str]:
        """Book what people pay of a run's bills."""
        others = (LATE, DEBIT, *but)
        return [
            self.bank.book(
                day, cents, f"Bill {reference(account, self.months[run])}", account, payer=f"{SIGN} {account}"
            )
            for account, cents in self.bills[run].items()
            if account not in others and cents > 0
        ]

    def pay_in(self, run: int, day: str, *odd: str, but: tuple[int, ...] = (), left: int = 0) -> None:
        """Book and import what people pay of a run's bills, and odd payments, of which some are left out."""
        file = [*self.pay(run, day, but=but), *odd]
        assert self.take_in(*file) == f"{len(file) - left} 0 0 {left}"

    def close(self, month: str) -> None:
        """Close a month of the ledger by two people."""
        self.clara.go("Billing", "Ledger").send(f"Propose to close {month}")
        (form,) = [
            each for each in self.anton.go("Billing", "Ledger").page.forms if each.path == "/console/ledger/close"
        ]
        self.by_second("/console/ledger/close", of=next(each.value for each in form.fields if each.name == "of"))
        self.anton.send(f"Close {month}")
        assert f"{month} is closed" in self.anton.text
        self.closed[month] = self.export(month)

    def send_mails(self) -> None:
        """Let the service send what waits."""
        now = self.town.now()
        turn = Turn(job="mail", period=Period(start=now, end=now + 60, name=""), attempt=1, now=now)
        asyncio.run(send_mails(self.town.settings, self.town.database, HERE, turn))

    def read_bills(self, mails: Sequence[Message], run: int) -> None:
        """Compare the bills that came by mail with what is owed: reference and address."""
        accounts = {account for account in self.bills[run] if account % 5 and account in ACCOUNTS}
        said = {
            each["To"]: [part.get_filename() for part in each.walk() if part.get_content_type() == "application/pdf"]
            for each in mails
            if each.is_multipart()
        }
        domain = SIGN.lower()
        month = self.months[run]
        assert said == {f"{domain}{n}@{domain}.example": [f"{reference(n, month)}.pdf"] for n in accounts}

    def mail(self, run: int) -> list[Message]:
        """Mail a run's bills; return what the mail server got."""
        before = len(self.post.took)
        self.clara.go("Billing", "Mail").send("Show", {"Run": run})
        self.clara.send(f"Mail run {run}")
        self.send_mails()
        return self.post.took[before:]

    def account_page(self, account: int, name: str = "") -> Desk:
        """Open the page of an account's people, found by a name."""
        self.carl.go("Billing", "Accounts").send("Find", {"Name": name or f"{SIGN} {account} Vogel"})
        return self.carl.click(str(account), before=f"/console/accounts/{account}")

    def move(self, account: int, what: str, at: str, name: str = "") -> int:
        """Move people; return the account that comes, 0: none."""
        said: dict[str, str] = {"Name": name, "Street": f"{SIGN}gasse 1", "City": "Wien"} if name else {}
        self.account_page(account).send("Show what changes", {"What happens": what, "From": at} | said, around="Move ")
        assert "What would change" in self.carl.text, self.carl.text
        came = re.search(r"\+ account (\d+) from", self.carl.text)
        self.carl.send("Do it")
        assert "It is done" in self.carl.text, self.carl.text
        return int(came[1]) if came else 0

    def order(self, button: str, day: str) -> list[tuple[str, int]]:
        """Order debits or refunds, download the newest file; return its orders with their cents."""
        self.carl.go("Billing", "Ledger").send(button, {"Day": day})
        (name, *_) = [words for words, path in self.carl.page.links if path.startswith("/console/ledger/orders/")]
        assert "has to release it" in self.carl.click(name).text
        self.anton.go("Billing", "Ledger").click(name).send("Release these orders")
        text = self.carl.go("Billing", "Ledger").click(name).file(f"{name}.xml").decode()
        found = zip(re.findall("<EndToEndId>([^<]+)<", text), re.findall('Ccy="EUR">([0-9.]+)<', text), strict=True)
        return [(order, round(float(amount) * 100)) for order, amount in found]

    def assign(self, words: str, account: int, part: str = "") -> None:
        """Give a payment that waits, or a part of it, to an account."""
        self.carl.go("Billing", "Ledger").send("Assign", {"Account": account, "Part": part}, around=words)
        assert "entries made" in self.carl.text


def first_half(year: Year) -> None:
    """January to May: names, three moves, reminders, entries; four odd payments."""
    town, bank = year.town, year.bank
    year.publish(TARIFF)
    year.step("tariff")
    rows = [
        f"{n},,{SIGN} {n} Vogel,{SIGN}weg {n},1010,Wien,AT,{SIGN.lower()}{n}@{SIGN.lower()}.example,de,"
        f"{'yes' if n % 5 == 0 else ''},{IBANS.get(n, '')},{f'M{n},2025-12-01' if n == DEBIT else ','}"
        for n in ACCOUNTS
    ]
    year.carl.go("Billing", "Accounts").send("Show what changes", {"The table": "\n".join([COLUMNS, *rows])})
    year.carl.send("Store these changes")
    assert "20 changes are stored" in year.carl.text

    year.morning("2026-02-12 09:00")
    january = year.issue("2026-01")
    year.step("January is billed")
    asked = year.mail(january)
    assert len(asked) == 16, "the others want paper"
    for each in asked:
        assert not each.is_multipart(), "no bill goes to an address that is not confirmed"
        link = re.search(r"https?://[^/]+(\S+)", str(each.get_payload(decode=True), "utf-8"))  # type: ignore[arg-type]
        assert link
        assert Browser(town.app).post(link[1]).status_code == 200
    assert "16 bills by mail, 4 on paper" in year.clara.go("Billing", "Mail").send("Show", {"Run": january}).text

    year.morning("2026-03-05 09:00")
    year.pay_in(january, "2026-03-04")
    year.step("January is paid")
    ((order, cents),) = year.order("Order direct debits", "2026-03-10")
    year.step("a debit is ordered")

    year.morning("2026-03-11 09:00")
    assert year.take_in(bank.book("2026-03-10", cents, "Lastschrift", DEBIT, order=order)) == "1 0 0 0"
    year.step("a debit is booked")
    came = year.move(MOVED, "This account moves out, another one in", "2026-03-10 14:15", f"{SIGN} Neu")
    assert came == 21

    year.morning("2026-03-12 09:00")
    february = year.issue("2026-02")
    year.step("February is billed")
    year.read_bills(year.mail(february), february)
    year.morning("2026-03-20 09:00")
    year.close("2026-02")
    year.step("February is closed")

    year.morning("2026-03-24 09:00")
    assert f"2026-03-24 {LATE} 0,00 EUR" in year.carl.go("Billing", "Ledger").text, year.carl.text
    year.step("a first reminder")

    year.morning("2026-04-02 09:00")
    year.move(EMPTY, "This account moves out, the home stays empty", "2026-04-01")
    year.morning("2026-04-05 09:00")
    file = year.pay(february, "2026-04-04")
    assert year.take_in(*file) == "18 0 0 0"
    assert year.take_in(*file) == "0 0 18 0", "the same file again"
    year.step("a file twice")

    year.morning("2026-04-08 09:00")
    assert f"2026-04-08 {LATE} 5,00 EUR" in year.carl.go("Billing", "Ledger").text, year.carl.text
    year.step("a second reminder")

    year.morning("2026-04-12 09:00")
    march = year.issue("2026-03")
    year.step("March is billed")
    year.morning("2026-04-20 09:00")
    year.close("2026-03")
    year.move(EMPTY, "An account moves into the empty home", "2026-04-19", f"{SIGN} Leer")

    year.morning("2026-05-05 09:00")
    new = year.pay(march, "2026-05-04")
    new += [bank.book("2026-05-01", 2000, f"Rate account {LATE}", LATE)]
    assert year.take_in(*file[9:], *new) == f"{len(new)} 0 9 0", "an overlapping file"
    year.step("an overlapping file")

    year.morning("2026-05-11 09:00")
    year.clara.go("Operation", "Not cut").send("Ask a second person", {"Account": 6, "Its place": "must not be cut"})
    year.by_second("/console/spared/6", agrees="true", wanted="true")
    year.anton.go("Operation", "Not cut").send("Agree")
    assert "6 r002 not cut" in year.anton.text or "account 6: agreed" in year.anton.text, year.anton.text
    year.enter(8, "Goodwill", "4.50", "meter was late")
    year.enter(9, "Fee", "12.00", "a visit for nothing")
    year.morning("2026-05-12 09:00")
    april = year.issue("2026-04")
    year.step("April is billed, with goodwill and a fee")
    year.morning("2026-05-20 09:00")
    year.close("2026-04")
    year.step("April is closed")

    year.morning("2026-06-05 09:00")
    wrong, both = reference(16, "2026-04"), (17, 18)
    wrong = f"{wrong[:2]}{(int(wrong[2:4]) + 1) % 97:02}{wrong[4:]}"
    new = year.pay(april, "2026-06-04", but=(16, *both))
    odd = [
        bank.book("2026-06-04", year.bills[april][16], f"Rechnung {wrong}", 16),
        bank.book(
            "2026-06-04", sum(year.bills[april][n] for n in both), f"accounts {both[0]} and account {both[1]}", 0
        ),
        bank.book("2026-06-01", 2000, f"Rate account {LATE}", LATE),
    ]
    assert year.take_in(*new, *odd) == f"{len(new) + 1} 2 0 0", "a wrong reference, two accounts in one text"
    bank.change(odd[0], account=0)
    year.step("two payments wait")
    year.assign(wrong, 16)
    bank.change(odd[0], account=16)
    year.step("a payment is assigned by hand")
    part = year.bills[april][both[0]]
    year.assign("account 18", both[0], f"{part / 100:.2f}")
    bank.change(odd[1], parts=((both[0], part),))
    year.step("a part of a payment is assigned")
    year.assign("account 18", both[1])
    bank.change(odd[1], account=both[1])
    year.step("the rest is assigned to another account")
    year.account_page(HEIRS)
    year.carl.send("Show what changes", {"From this": "2026-06-05", "Name": f"{SIGN} Erbin"}, around="Other people")
    assert f"{SIGN} 12 Vogel → {SIGN} Erbin" in year.carl.text, year.carl.text
    year.carl.send("Do it")
    assert f"{SIGN} Erbin" in year.carl.text


def second_half(year: Year) -> None:
    """May to December: other taxes, a cancelled run, a wrong price, the other odd payments, the year's end."""
    bank = year.bank
    year.morning("2026-06-12 09:00")
    may = year.issue("2026-05")
    year.step("May is billed")
    taxed = TARIFF.replace('percent = "10"', 'percent = "13"').replace("[[reminder]]", LEVY, 1)
    year.publish(taxed.replace("2026-01-01", "2026-07-01"))
    year.step("other taxes from July")

    year.morning("2026-06-16 09:00")
    orders = year.order("Order direct debits", "2026-06-18")
    year.morning("2026-06-18 09:00")
    debits = [bank.book("2026-06-18", cents, "Lastschrift", DEBIT, order=order) for order, cents in orders]
    assert len(debits) == 4, "of February to May"
    assert year.take_in(*debits) == "4 0 0 0"
    order, cents = orders[-1]
    year.morning("2026-06-20 09:00")
    assert year.take_in(bank.book("2026-06-20", -cents, "Konto nicht gedeckt", DEBIT, order=order)) == "1 0 0 0"
    year.step("a returned debit")
    year.close("2026-05")
    year.morning("2026-07-05 09:00")
    year.pay_in(may, "2026-07-04")
    year.step("May is paid")

    year.morning("2026-07-12 09:00")
    june = year.issue("2026-06")
    year.step("June is billed")
    year.morning("2026-07-20 09:00")
    year.close("2026-06")
    year.morning("2026-08-05 09:00")
    foreign = bank.book("2026-08-04", 5000, f"Bill {reference(14, '2026-06')}", 14, currency="USD")
    year.pay_in(june, "2026-08-04", foreign, left=1)
    year.step("another currency")

    year.morning("2026-08-12 09:00")
    july = year.issue("2026-07")
    year.step("July is billed, with other taxes")
    dear = taxed.replace("2026-01-01", "2026-09-01").replace("0.3200", "0.3900")
    year.publish(dear)
    year.morning("2026-08-20 09:00")
    year.close("2026-07")
    year.morning("2026-09-05 09:00")
    more = bank.book("2026-09-04", year.bills[july][10] + 1, f"Bill {reference(10, '2026-07')}", 10)
    year.pay_in(july, "2026-09-04", more, but=(10,))
    assert "10 -0,01 EUR" in year.carl.go("Billing", "Ledger").text, year.carl.text
    year.step("a cent too much")

    year.morning("2026-09-12 09:00")
    wrong = year.issue("2026-08")
    year.step("August is billed")
    year.morning("2026-09-14 09:00")
    early = bank.book("2026-09-13", year.bills[wrong][8], f"Bill {reference(8, '2026-08')}", 8)
    assert year.take_in(early) == "1 0 0 0"
    year.clara.go("Billing").click(str(wrong), before="/console/runs").click("Cancel this run")
    year.clara.send("Ask to cancel", {"Why": "billed before a meter was read"})
    year.approve_entry("billed before a meter was read")
    year.runs[wrong] = "cancelled"
    year.step("August is cancelled")
    august = year.issue("2026-08")
    assert year.bills[august] == year.bills[wrong]
    year.step("August is billed again")
    year.morning("2026-09-20 09:00")
    year.close("2026-08")
    year.morning("2026-10-05 09:00")
    less = bank.book("2026-10-04", year.bills[august][11] // 2, f"Bill {reference(11, '2026-08')}", 11)
    year.pay_in(august, "2026-10-04", less, but=(8, 11))
    year.step("a part")

    year.morning("2026-10-12 09:00")
    september = year.issue("2026-09")
    year.step("September is billed, at a wrong price")
    corrects = 'effective = 2026-09-01\ncorrects = "0.39 was a slip of a digit"'
    year.publish(dear.replace("effective = 2026-09-01", corrects).replace("0.3900", "0.3300"))
    year.step("the price is corrected")
    year.morning("2026-10-20 09:00")
    year.close("2026-09")
    year.morning("2026-11-05 09:00")
    late = bank.book("2026-11-04", 3000, f"Bill {reference(MOVED, '2026-02')}", MOVED)
    year.pay_in(september, "2026-11-04", late)
    year.step("a payment after a move")
    ((order, cents),) = year.order("Order refunds", "2026-11-10")
    assert cents == 3000
    year.morning("2026-11-11 09:00")
    assert year.take_in(bank.book("2026-11-10", -cents, "Rückzahlung", MOVED, order=order)) == "1 0 0 0"
    year.step("a refund")

    for month, issue, pay, close in (
        ("2026-10", "2026-11-12", "2026-12-05", "2026-10"),
        ("2026-11", "2026-12-12", "2027-01-05", "2026-11"),
        ("2026-12", "2027-01-12", "2027-02-05", "2026-12"),
    ):
        year.morning(f"{issue} 09:00")
        run = year.issue(month)
        year.step(f"{month} is billed")
        year.morning(f"{issue[:8]}20 09:00")
        year.close(close)
        year.morning(f"{pay} 09:00")
        year.pay_in(run, pay)
        year.step(f"{month} is paid")


@pytest.fixture(scope="module")
def log() -> Iterator[io.StringIO]:
    """Return what is logged."""
    text = io.StringIO()
    handler, root = logging.StreamHandler(text), logging.getLogger()
    before = root.level
    handler.addFilter(lambda record: record.name != "mail.log")  # that of the test's mail server
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.removeHandler(handler)
    root.setLevel(before)


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory, log: io.StringIO) -> Iterator[Year]:
    """Return the office after its year."""
    post = Post()
    controller = Controller(post, hostname="127.0.0.1", port=post.port)
    controller.start()
    mail = {"host": "127.0.0.1", "port": post.port, "sender": "office@town.example", "plain_text": True}
    town = OfficeTown(tmp_path_factory.mktemp("office"), address=("Amtsweg 1", "1010 Wien"), mail=mail)
    town.settle_year()
    made = Year(town, post)
    first_half(made)
    second_half(made)
    yield made
    controller.stop()
    town.database.close()


def test_ledger_balances_after_every_step(year: Year) -> None:
    assert len(year.steps) >= 40
    assert not any(year.steps.values())
    assert len(year.bank.booked) > 200
    assert {account for bills in year.bills.values() for account, cents in bills.items() if cents < 0} <= {MOVED, EMPTY}
    assert list(year.closed) == [f"2026-{n:02}" for n in range(2, 13)]
    year.anton.go("Billing", "Ledger")
    again = {month: year.anton.file(f"{month}.csv", before="/console/ledger/months") for month in year.closed}
    assert again == year.closed, "a closed month is for ever"


def test_clerk_finds_the_statement_of_a_name_that_owes_nothing(year: Year) -> None:
    page = year.account_page(4).click("Bills of the account").click("What the account owes and paid")
    assert "run 1 account 4" in page.text
    assert "Nothing is open" in page.text


def test_one_person_is_never_both_of_two(year: Year) -> None:
    assert year.refused > 50
    assert {" ".join(words) for words in year.commands} == {"do tariffs", "do runs", "do entries"}


def test_wrong_price_and_other_taxes_are_on_the_bills(year: Year) -> None:
    def lines(month: str) -> list[str]:
        run = next(run for run, of in year.months.items() if of == month and year.runs[run] == "issued")
        bill = json.loads(year.anton.get_file(f"/runs/{run}/bills/4"))
        return [f"{line['text']} {line.get('reason', '')} {line['amount']}" for line in bill["lines"]]

    assert any(line.startswith("VAT 10 %") for line in lines("2026-06"))
    assert {word for line in lines("2026-07") for word in ("VAT 13 %", "levy") if line.startswith(word)} == {
        "VAT 13 %",
        "levy",
    }
    (correction,) = [line for line in lines("2026-10") if "0.39 was a slip of a digit" in line]
    assert "-" in correction, "September was too dear"


def test_green_button_equals_the_bills(year: Year) -> None:
    home = year.town.person("resi", Role.RESIDENT, account=1).go("Einstellungen")  # The household's language.
    home.send(
        "Herunterladen",
        {"Ab Beginn": "2026-03-01", "Bis vor": "2026-05-01", "Format": "Green", "Daten": "abgerechnete"},
    )
    feed = ElementTree.fromstring(home.downloaded)
    assert green_button.faults(feed) == []
    totals = [Decimal(each.text or "").scaleb(-3) for each in feed.iter(f"{green_button.ESPI}billLastPeriod")]
    runs = [run for run, month in year.months.items() if month in ("2026-03", "2026-04")]
    assert totals == [year.bills[run][1] for run in runs]


def test_who_people_are_is_found_nowhere(year: Year, log: io.StringIO, tmp_path: Path) -> None:
    year.root.go("People", "Audit log")
    (audit,) = {path for _, path in year.root.page.links if path.startswith("/console/audit/file")}
    period = "start=2026-01-01&end=2027-02-01"
    found = {
        "audit log": year.root.get_file(audit),
        "metrics": year.anton.get_file("/metrics"),
        "log": log.getvalue().encode(),
        **{f"ledger {month}": content for month, content in year.closed.items()},
        **{name: year.anton.get_file(f"/export/{name}?{period}") for name in ("bills", "events")},
    }
    with closing(sqlite3.connect(year.town.file)) as source:
        copy(source, tmp_path / "backup.db", lambda *_: None)
    for path in (*year.town.folder.glob("utility.db*"), tmp_path / "backup.db"):
        found[path.name] = path.read_bytes()
    assert [where for where, content in found.items() if not content and not where.startswith("utility.db")] == []
    signs = [SIGN.lower(), *(iban.lower() for iban in IBANS.values())]
    leaks = [
        (where, sign)
        for where, content in found.items()
        for sign in signs
        if sign.encode() in content.lower() or sign.encode("utf-16-le") in content.lower()
    ]
    assert leaks == []
    assert SIGN in year.account_page(1).text, "clerks see it"
