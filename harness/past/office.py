"""What people did in the town's past: they published a tariff, issued bills, announced storms, made a release."""

from dataclasses import dataclass
from pathlib import Path

from commonwatt.config.utility import UtilitySettings
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.clock import Clock
from harness.past.energy import Fault
from utility.access.actor import MACHINE, Actor, Via, on_machine
from utility.access.decisions import Second
from utility.access.roles import Role
from utility.access.rules import NewPerson
from utility.access.store import access
from utility.access.store.acting import By
from utility.billing import decisions as billing
from utility.control.decisions import announce_storm
from utility.database.database import Database
from utility.outbox.tables import command
from utility.people.store import invite_person
from utility.research import decisions as research
from utility.research.cli.open_release import release_open
from utility.research.cli.source import homes_in, source_of
from utility.research.release import Asked, Tier
from utility.supply.buying.situation import Storm
from utility.supply.store.supply_view import save_storm
from utility.tariffs import decisions as tariffs

TARIFF, NEXT_TARIFF = (Path(__file__).with_name(name) for name in ("tariff.toml", "next_tariff.toml"))
RESIDENT = 1  # the account of the resident
AGREEMENT, AGREED_S = "university", 365 * 86_400  # the researcher's agreement; for how long it holds, seconds


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

    def __init__(self, database: Database) -> None:
        self._database = database

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

    def announce(self, fault: Fault) -> None:
        """Announce a storm, which all gateways got, and which is over."""
        assert fault.announced is not None
        storm = Storm(start=fault.start, end=int(fault.start + fault.hours * 3600))
        announce_storm(self._database, OTTO.actor, storm, fault.announced)
        with self._database.writes.begin() as connection:
            values = {"state": "done", "result": "done", "outcome": '{"result": "done"}'}
            connection.execute(command.update().where(command.c.state == "open").values(values))
            save_storm(connection, None)

    def release(self, settings: UtilitySettings, start: EpochSeconds, end: EpochSeconds, now: EpochSeconds) -> None:
        """Make an open release of a period, and an agreement with the researcher."""
        clock = Clock(origin=now, monotonic_origin=0, speed=0)
        source = source_of(self._database, settings, clock, CLARA.name, make=True)
        asked = Asked(tier=Tier.OPEN, start=start, end=end)
        homes, _ = homes_in(source, asked, lambda _: None)
        made = release_open(source, asked, homes, None)
        assert made.written, "the release would wait for an approval"
        research.add_agreement(self._database, AGREEMENT, end + AGREED_S, CLARA.actor, now)
        research.let_read(self._database, AGREEMENT, ROSA.name, CLARA.actor, now)

    def _second(self, now: EpochSeconds) -> Second:
        return Second(actor=ANTON.actor, now=now, wait_days=0)
