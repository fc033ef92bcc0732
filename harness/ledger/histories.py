"""Random histories of a town's ledger: after every step the checker agrees, closed months stay, balances are right.

``python -m harness.ledger.histories --seeds 1 10000``
"""

import argparse
import csv
import io
import tempfile
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

from commonwatt.model.calendar import midnight, month_before
from commonwatt.model.exceptions import ConfigError
from commonwatt.town.loading import load_town
from harness.billing.worlds import tariff
from harness.commands import token_for
from harness.ledger.checker import faults
from utility.access.decisions import Second
from utility.access.people import Actor, Role, Via
from utility.customers.people import Contact
from utility.customers.store import office_key, set_contact
from utility.database.database import Database, open_database
from utility.database.migrate import empty_database
from utility.ledger import store
from utility.ledger.bank import rf_reference
from utility.ledger.decisions import Asked, close, decide, take_in
from utility.ledger.entry import Entry, LedgerKind, billed, open_items
from utility.ledger.store import C, entries_where
from utility.registry.store.registration import fill_registry
from utility.settings import OfficeSettings, UtilitySettings
from utility.tariffs import store as tariffs

ZONE = ZoneInfo("America/New_York")
FIRST = date(2026, 11, 3)
STEPS = 40  # steps of a history
LEVELS = [{"days": 7}, {"days": 14, "fee": "5.00"}]
ANNA, BEN = (
    Actor(name=name, roles=frozenset({Role.CLERK, Role.APPROVER}), account=None, via=Via.SESSION, address="")
    for name in ("anna", "ben")
)


def template(folder: Path) -> bytes:
    """Return a database with a town of six accounts, a tariff with reminders, two people."""
    town = folder / "town.toml"
    town.write_text('microgrid = [{id = "r", kind = "residential", count = 2, houses = 3}]\n')
    (folder / "template.db").write_bytes(empty_database())
    database = open_database(f"sqlite:///{folder}/template.db", create=True)
    with database.writes.begin() as connection:
        fill_registry(connection, load_town(town))
        stored = tariffs.propose(connection, tariff(reminder=LEVELS), "", "anna", 0)
        tariffs.publish(connection, stored.name, stored.version, "ben", 0)
        key = office_key(connection, settings_of(folder).office)
        for account in (1, 2, 3):
            who = Contact(
                name=f"Person {account}", iban="DE02120300000000202051", mandate="M", mandate_day="2026-10-01"
            )
            set_contact(connection, account, 0, who, key)
    for name in ("anna", "ben"):
        token_for(database, name, 0)
    database.close()
    return (folder / "template.db").read_bytes()


def settings_of(folder: Path) -> UtilitySettings:
    """Return the settings of a history's town."""
    office = OfficeSettings(key=folder / "office-key", name="Town", iban="DE02120300000000202051", creditor="C")
    return UtilitySettings(office=office)


@dataclass
class History:
    """A town's ledger, and what it should have."""

    database: Database
    settings: UtilitySettings
    random: Random
    day: date = FIRST
    run: int = 0
    bills: list[dict[str, str]] = field(default_factory=list)
    payments: dict[str, dict[str, str]] = field(default_factory=dict)  # by the bank's reference
    files: list[str] = field(default_factory=list)
    closed: dict[str, bytes] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def now(self) -> int:
        """Noon of the day."""
        return midnight(self.day, ZONE) * 900 + 43_200

    def step(self) -> None:
        """Do anything, or be refused; then check all."""
        steps = [
            self.pass_time,
            self.pass_time,
            self.issue,
            self.cancel,
            self.pay,
            self.pay,
            self.pay_again,
            self.odd,
            self.assign,
        ]
        steps += [self.reverse, self.remind, self.remind, self.propose, self.close, self.order]
        chosen = self.random.choice(steps)
        try:
            chosen()
            self.counts[chosen.__name__] = self.counts.get(chosen.__name__, 0) + 1
        except ConfigError:
            pass
        self.check()

    def check(self) -> None:
        """Check the ledger by the files alone, and its balances and closed months."""
        codes = self.settings.office.codes
        with self.database.reads.begin() as connection:
            entries = entries_where(connection)
            months = sorted({each.day[:7] for each in entries})
            exports = {month: store.exported(connection, month, codes) for month in months}
            balances = store.balances(connection)
        rows = {month: list(csv.DictReader(io.StringIO(text.decode()))) for month, text in exports.items()}
        assert not (found := faults(rows, self.bills, self.payments.values())), found
        for month, content in self.closed.items():
            assert exports.get(month, content) == content, f"{month} has changed"
        for account in range(1, 7):
            ours = [each for each in entries if each.account == account]
            left = sum(cents for _, cents in open_items(ours))
            assert left == max(0, balances.get(account, 0)), (account, left, balances)

    def pass_time(self) -> None:
        self.day += timedelta(self.random.choice((1, 5, 12, 30, 60)))

    def issue(self) -> None:
        self.run += 1
        day, due, bills = str(self.day), str(self.day + timedelta(30)), {}
        for account in range(1, 7):
            parts = {"energy": self.random.randint(0, 9000), "taxes": self.random.randint(0, 900)}
            bills[account] = parts | {
                "goodwill": -self.random.choice((0, 0, 500)),
                "fees": self.random.choice((0, 250)),
            }
        finals = [account for account in (2, 6) if self.random.random() < 0.1]
        for account in finals:
            bills[account]["energy"] -= 5000
        with self.database.writes.begin() as connection:
            made = [billed(self.run, n, day, due, of, is_final=n in finals) for n, of in bills.items()]
            store.post(connection, made, "ben", self.now)
        states = {"run": str(self.run), "state": "issued"}
        self.bills += [
            states | {"account": str(n), "cents": str(sum(parts.values())), "taxes": str(parts["taxes"])}
            for n, parts in bills.items()
        ]

    def cancel(self) -> None:
        if runs := [bill["run"] for bill in self.bills if bill["state"] == "issued"]:
            run = self.random.choice(runs)  # also one with reminders
            with self.database.writes.begin() as connection:
                store.post_cancel(connection, int(run), str(self.day), "ben", self.now)
            for bill in self.bills:
                bill["state"] = "cancelled" if bill["run"] == run else bill["state"]

    def pay(self) -> None:
        account = self.random.randint(1, 6)
        with self.database.reads.begin() as connection:
            owed = store.balance(connection, account)
        cents = self.random.choice((owed, owed, 1, 4000, -abs(owed))) or 77
        text, of = self.random.choice(
            [
                (rf_reference(account, "2026-11"), account),
                (f"thanks, account {account}", account),
                ("for the sun", 0),
                (f"account {account} and account {account % 6 + 1}", 0),
                ("account 999", 0),
                ("RF00" + rf_reference(account, "2026-11")[4:], 0),
            ]
        )
        self.import_rows([(cents, "USD", text, f"B{len(self.payments)}", of)])

    def import_rows(self, rows: list[tuple[int, str, str, str, int]]) -> None:
        day = self.day - timedelta(self.random.choice((0, 0, 3, 40)))
        text = "day,amount,currency,reference,text,payer,bank_reference\n"
        for cents, currency, words, bank, _ in rows:
            text += f'{day},{cents / 100:.2f},{currency},,"{words}",Somebody,{bank}\n'
        take_in(self.database, self.settings, text.encode(), ANNA, self.now)
        self.files.append(text)
        for cents, currency, _, bank, account in rows:
            if cents and currency == "USD":
                self.payments.setdefault(bank, {"cents": str(cents), "account": str(account)})

    def pay_again(self) -> None:
        if self.files:
            take_in(self.database, self.settings, self.random.choice(self.files).encode(), ANNA, self.now)

    def odd(self) -> None:
        self.import_rows([(5000, "EUR", "account 1", "E1", 1), (0, "USD", "account 2", "Z1", 2)])

    def assign(self) -> None:
        with self.database.reads.begin() as connection:
            waiting = store.waiting(connection)
        if waiting:
            payment, account = self.random.choice(waiting), self.random.choice((0, 1, 2, 5, 99))
            self.decide("assign", no=payment.no, account=account)
            self.move(payment.no, account)

    def move(self, no: int, account: int) -> None:
        """Say of which account a payment is."""
        with self.database.reads.begin() as connection:
            every = entries_where(connection, C.kind == LedgerKind.PAYMENT)
        at = [each.no for each in every].index(no)
        self.payments[list(self.payments)[at]]["account"] = str(account)

    def reverse(self) -> None:
        with self.database.reads.begin() as connection:
            entries = entries_where(connection)
        if entries:
            entry = self.random.choice(entries)
            self.decide("reverse", no=entry.no)
            if entry.kind is LedgerKind.ASSIGNMENT:
                self.move(entry.about, 0)

    def order(self) -> None:
        day = str(self.day + timedelta(2))
        made = self.decide(self.random.choice(("collect", "refund")), day=day)
        with self.database.reads.begin() as connection:
            of = [each.about for each in entries_where(connection, C.kind == LedgerKind.ORDER)]
            gone = [each.about for each in entries_where(connection, C.kind == LedgerKind.REVERSAL)]
            orders = entries_where(connection, C.kind == LedgerKind.ORDER)
        of = [each.about for each in orders if each.no not in gone]
        assert len(set(of)) == len(of), "a bill is ordered twice"
        order = self.random.choice(made)
        if self.random.random() < 0.7:
            row = f"{self.day},{order.cents / 100:.2f},USD,CW{order.no},,,O{order.no}"
            header = "day,amount,currency,reference,text,payer,bank_reference\n"
            take_in(self.database, self.settings, (header + row).encode(), ANNA, self.now)
            self.payments[f"O{order.no}"] = {"cents": str(order.cents), "account": str(order.account)}

    def remind(self) -> None:
        with self.database.writes.begin() as connection:
            store.remind(connection, "town", self.now)
            before = store.newest(connection)
            store.remind(connection, "town", self.now)
            assert store.newest(connection) == before, "a second turn of the same day made reminders"

    def propose(self) -> None:
        self.decide("propose", day=month_before(f"{self.day:%Y-%m}"))

    def close(self) -> None:
        with self.database.reads.begin() as connection:
            proposed = entries_where(connection, C.kind == LedgerKind.PROPOSAL)[-1:]
        for each in proposed:
            close(self.database, self.settings, each.of, Second(actor=BEN, now=self.now, wait_days=0))
            with self.database.reads.begin() as connection:
                self.closed[each.text] = store.exported(connection, each.text, self.settings.office.codes)

    def decide(self, name: str, **asked: object) -> list[Entry]:
        return decide(self.database, self.settings, name, Asked.model_validate(asked), ANNA, self.now)


def memory() -> str | None:
    """Return a folder in memory for databases, if the machine has one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def history(seed: int, content: bytes, folder: Path, steps: int = STEPS) -> dict[str, int]:
    """Run a history; return how often each step was done."""
    path = folder / "history.db"
    for old in folder.glob("history.db*"):
        old.unlink()
    path.write_bytes(content)
    database = open_database(f"sqlite:///{path}", create=False)
    it = History(database, settings_of(folder), Random(seed))
    try:
        for _ in range(steps):
            it.step()
    except Exception as error:
        error.add_note(f"seed {seed}")
        raise
    finally:
        database.close()
    return it.counts


def main() -> None:
    """Run histories."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs=2, type=int, default=(1, 300))
    first, last = parser.parse_args().seeds
    with tempfile.TemporaryDirectory(dir=memory()) as name:
        folder, done = Path(name), dict[str, int]()
        content = template(folder)
        for seed in range(first, last + 1):
            for step, count in history(seed, content, folder).items():
                done[step] = done.get(step, 0) + count
            if seed % 500 == 0:
                print(f"{seed - first + 1} of {last - first + 1}", flush=True)
    print(f"{last - first + 1} histories balance after every step: {done}")


if __name__ == "__main__":
    main()
