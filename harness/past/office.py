"""What people did in the town's past: households' names and payments, tariffs, bills, storms."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from commonwatt.model.calendar import local_day
from commonwatt.model.text import duration
from commonwatt.model.units import AccountNumber, EpochSeconds, MicrogridId, Quarter
from harness.past.energy import Fault
from utility.access.decisions import Second
from utility.access.people import MACHINE, Actor, NewPerson, Role, Via, on_machine
from utility.access.store import access
from utility.access.store.audit_log import By, record
from utility.alarms.alarm import KINDS, AlarmStage, Life
from utility.alarms.store import save_lives
from utility.billing import decisions as billing
from utility.control.decisions import announce_storm
from utility.customers.people import Contact
from utility.customers.store import office_key, set_contact
from utility.database.database import Database
from utility.database.town_zone import zone_of
from utility.ledger.bank import rf_reference
from utility.ledger.decisions import take_in
from utility.ledger.store import balances, remind
from utility.moves.move import Move, MoveKind, moved
from utility.outbox.tables import command
from utility.people.store import invite_person
from utility.registry.changes import date_words
from utility.registry.store.accounts import load_dated_registry, load_for_change, save_dated_registry
from utility.registry.store.statements import add_move
from utility.research import decisions as research
from utility.research.jobs.releases import release_open
from utility.research.jobs.source import homes_in, source_of
from utility.research.release import AskedRelease, Tier
from utility.settings import UtilitySettings
from utility.supply.buying import Storm
from utility.supply.store import save_storm
from utility.tariffs import decisions as tariffs

LATE_PAYER, LATE_FROM = 9, "2026-02"  # the account that pays no bill from a month on
MOVER, COMES_TO_NAME = 12, "Noor Haddad"  # the account that moves out after the past's end, and who comes

_FIRST = ("Ada", "Ben", "Carmen", "Dmitri", "Elif", "Femi", "Greta", "Hiro", "Ines", "Jonas", "Kemal")
_LAST = ("Abbott", "Brandt", "Castillo", "Dogan", "Eriksen", "Fontaine", "Garcia")
_STREETS = ("Orchard Lane", "Mill Road", "Station Street", "Hill View")
_NAMES = [f"{first} {last}" for last, first in product(_LAST, _FIRST)]


def contact_of(account: AccountNumber, *, name: str = "", street: str = "") -> Contact:
    """Return who an account is; none is a person that there is: the addresses are of a town that there is not."""
    return Contact(
        name=name or _NAMES[account % len(_NAMES)],
        street=street or f"{account % 40 + 1} {_STREETS[account % len(_STREETS)]}",
        postcode="00000",
        city="Commonwatt",
        country="US",
    )


def pays(account: AccountNumber, month: str) -> bool:
    """Return whether an account pays the bill of a month within its time."""
    return account != LATE_PAYER or month < LATE_FROM


def statement(rows: Sequence[tuple[str, int, str, str]]) -> bytes:
    """Return a bank's table (CSV) of payments: the day, cents, the payer's words, the payer."""
    lines = ["day,amount,currency,reference,text,payer,bank_reference"]
    lines += [f"{day},{cents / 100:.2f},USD,,{text},{payer}," for day, cents, text, payer in rows]
    return "\n".join(lines).encode()


TARIFF, NEXT_TARIFF = (Path(__file__).with_name(name) for name in ("tariff.toml", "next_tariff.toml"))
RESIDENT = 1  # the account of the resident
AGREEMENT, AGREED_S = "university", 365 * 86_400  # the researchers' agreement; for how long it holds, seconds


@dataclass(frozen=True, kw_only=True)
class Member:
    """A person of the demonstration."""

    name: str
    role: Role

    @property
    def actor(self) -> Actor:
        """The person as one who is logged in."""
        return Actor(name=self.name, roles=frozenset({self.role}), account=None, via=Via.SESSION, address="127.0.0.1")


VERA, OTTO = Member(name="vera", role=Role.VIEWER), Member(name="otto", role=Role.OPERATOR)
CLARA, ANTON = Member(name="clara", role=Role.CLERK), Member(name="anton", role=Role.APPROVER)
ROSA, RITA = Member(name="rosa", role=Role.RESEARCHER), Member(name="rita", role=Role.RESIDENT)
# The service's own name for the first administrator, whom it invites at its start.
ADMIN = Member(name=access.FIRST, role=Role.ADMIN)
MEMBERS = (VERA, OTTO, CLARA, ANTON, ROSA, RITA, ADMIN)


class Office:
    """The people at the utility of a past."""

    def __init__(self, database: Database, settings: UtilitySettings) -> None:
        self._database, self._settings = database, settings

    def hire(self, now: EpochSeconds) -> None:
        """Invite a person of each role; the links were never used, and are too old now."""
        with self._database.writes.begin() as connection:
            for one in MEMBERS:
                account = RESIDENT if one.role is Role.RESIDENT else None
                display = "Administrator" if one is ADMIN else one.name.capitalize()
                new = NewPerson(name=one.name, display=display, roles=frozenset({one.role}), account=account)
                actor = on_machine(MACHINE) if one is ADMIN else ADMIN.actor
                invite_person(By(connection=connection, actor=actor, now=now, machine_s=now), new)

    def publish(self, source: str, now: EpochSeconds) -> None:
        """Propose and publish a tariff."""
        tariff = tariffs.propose(self._database, source, CLARA.actor, now)
        tariffs.publish(self._database, tariff.name, tariff.version, self._second(now + 3600))

    def propose(self, source: str, now: EpochSeconds) -> None:
        """Propose a tariff, which waits for its approval."""
        tariffs.propose(self._database, source, CLARA.actor, now)

    def bill(self, month: str, now: EpochSeconds) -> None:
        """Make, check and issue the bills of a month."""
        number, _ = billing.draft(self._database, month, "town", CLARA.actor, now)
        billing.check(self._database, number, CLARA.actor, now + 1800)
        billing.issue(self._database, number, self._second(now + 3600))

    def name(self, now: EpochSeconds) -> None:
        """Enter the names and addresses of all accounts."""
        with self._database.writes.begin() as connection:
            key = office_key(connection, self._settings.office)
            for account in sorted(load_dated_registry(connection).accounts):
                set_contact(connection, account, 0, contact_of(account), key)
                record(connection, CLARA.actor, now, "contact.set", f"account {account}")

    def collect(self, month: str, now: EpochSeconds) -> None:
        """Import the bank's payments of a month's bills: in the middle of their time, from all but who pays late."""
        with self._database.reads.begin() as connection:
            day, owed = str(local_day(now, zone_of(connection))), balances(connection)
        paid = [(account, cents) for account, cents in sorted(owed.items()) if cents > 0 and pays(account, month)]
        rows = [(day, cents, rf_reference(a, month), contact_of(a).name) for a, cents in paid]
        take_in(self._database, self._settings, statement(rows), CLARA.actor, now)

    def remind(self, now: EpochSeconds) -> None:
        """Let the service send the reminders that are due."""
        with self._database.writes.begin() as connection:
            remind(connection, "town", now)

    def plan_move(self, at: Quarter, now: EpochSeconds) -> None:
        """Enter a move of a day to come."""
        with self._database.writes.begin() as connection:
            before, zone = load_for_change(connection), zone_of(connection)
            move = Move(kind=MoveKind.MOVE, account=MOVER, at=at, next=0)
            after, comes, _ = moved(before, move, zone)
            assert comes is not None
            key = office_key(connection, self._settings.office)
            set_contact(connection, comes, at, contact_of(MOVER, name=COMES_TO_NAME), key)
            set_contact(connection, MOVER, at, contact_of(MOVER, street="7 Harbour Street"), key)
            save_dated_registry(connection, before, after, CLARA.name, now, zone)
            said = {"kind": move.kind, "from": date_words(at, zone), "next": comes}
            record(connection, CLARA.actor, now, "move.make", f"account {MOVER}", None, said)
            add_move(connection, MOVER, at)

    def note_island(self, microgrid: MicrogridId, start: EpochSeconds, end: EpochSeconds) -> None:
        """Keep the alarm of an island that is over, as the service would have."""
        kind = KINDS["Island"]
        alarm = kind.alarm(f"For {duration(end - start)}.", controller=microgrid)
        with self._database.writes.begin() as connection:
            life = Life(alarm=replace(alarm, since=start), stage=AlarmStage.ENDED, ended=end)
            save_lives(connection, [life], end)

    def announce(self, fault: Fault) -> None:
        """Announce a storm, which all gateways got, and which is over."""
        assert fault.announced is not None
        storm = Storm(start=fault.start, end=int(fault.start + fault.hours * 3600))
        announce_storm(self._database, OTTO.actor, storm, fault.announced)
        with self._database.writes.begin() as connection:
            values = {"state": "done", "result": "done", "outcome": '{"result": "done"}'}
            connection.execute(command.update().where(command.c.state == "open").values(values))
            save_storm(connection, None)

    def release(self, start: EpochSeconds, end: EpochSeconds, now: EpochSeconds) -> None:
        """Make an open release of a period, and an agreement with researchers."""
        source = source_of(self._database, self._settings, now, CLARA.actor)
        asked = AskedRelease(tier=Tier.OPEN, start=start, end=end)
        homes, _ = homes_in(source, asked, lambda _: None)
        made = release_open(source, asked, homes, None)
        assert made.written, "the release would wait for an approval"
        research.add_agreement(self._database, AGREEMENT, end + AGREED_S, CLARA.actor, now)

    def _second(self, now: EpochSeconds) -> Second:
        return Second(actor=ANTON.actor, now=now, wait_days=0)
