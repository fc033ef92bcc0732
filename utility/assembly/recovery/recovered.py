"""What a recovery does besides copying rows: it marks what is computed again, and closes logins that lost a factor."""

from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, case, select

from commonwatt.model.units import QUARTER_S, EpochSeconds
from commonwatt.settlement.settled import QUARTERS_A_DAY
from utility.access.actor import MACHINE, Actor, Via
from utility.access.store.audit_log import record
from utility.access.tables import audit, person, recovery_code, second_factor
from utility.jobs.reasons import Why
from utility.jobs.store.due import mark
from utility.jobs.tables import settlement_due
from utility.readings.store.retention import kept_from
from utility.registry.layout import Day
from utility.registry.tables import controller, meter
from utility.statistics.months import Month, columns_of, month_number
from utility.statistics.store.usage_due import mark_settled

_UTC = ZoneInfo("UTC")
_MONTHS = range(month_number("1971-01"), month_number("2099-01"))
"""Months that there may be usage of; a damaged one may be any number."""


@dataclass
class Lost:
    """Damaged rows that the utility computes from others."""

    settled: set[tuple[int, Day]] = field(default_factory=set)  # meters' numbers and days of settled days
    days: set[Day] = field(default_factory=set)  # days of the usage of classes
    months: set[Month] = field(default_factory=set)  # months of usage, and of batteries


def compute_again(connection: Connection, lost: Lost, now: EpochSeconds) -> None:
    """Mark the days of damaged rows: to be settled if their readings are kept, and to be taken into the usage."""
    kept = kept_from(connection)
    of_meters = select(meter.c.no, controller.c.number).join(controller, controller.c.id == meter.c.microgrid)
    owner_of = {row.no: row.number for row in connection.execute(of_meters)}
    pairs = {
        (day, owner_of[number])
        for number, day in lost.settled
        if number in owner_of and kept <= day * QUARTERS_A_DAY < now // QUARTER_S
    }
    mark(connection, settlement_due, pairs, Why.PERSON)
    # A local month is at most a day longer than one of UTC on either side.
    spans = [columns_of(month, _UTC).days for month in lost.months.intersection(_MONTHS)]
    spans = [range(span.start - 1, span.stop + 1) for span in spans] + [range(day, day + 1) for day in lost.days]
    # Usage can't be computed from days that stay damaged; the job would stop at them.
    stay = {day for _, day in lost.settled if day * QUARTERS_A_DAY < kept}
    for span in spans:
        if stay.isdisjoint(span):
            mark_settled(connection, span.start, span[-1])


def close_logins(connection: Connection, now: EpochSeconds) -> list[str]:
    """Delete the passwords of people whose second factor is lost, since the password alone would do; return them."""
    c = second_factor.c
    have = set(connection.execute(select(c.person).where(c.secret.is_not(None), c.since.is_not(None))).scalars())
    had = set(connection.execute(select(recovery_code.c.person)).scalars())
    changes = select(audit.c.subject, audit.c.after).where(audit.c.action == "person.second-factor")
    newest = {row.subject: row.after for row in connection.execute(changes.order_by(audit.c.no))}
    had |= {name for name, after in newest.items() if after != '"off"'}
    machine = Actor(name=MACHINE, roles=frozenset(), account=None, via=Via.MACHINE, address="")
    state = case((person.c.state == "active", "invited"), else_=person.c.state)
    closed = []
    for name in sorted(had - have):
        ours = (person.c.name == name) & person.c.password.is_not(None)
        if connection.execute(person.update().where(ours).values(password=None, state=state)).rowcount:
            # As after a removal, so that a later recovery asks for no factor that was not set up again.
            connection.execute(recovery_code.delete().where(recovery_code.c.person == name))
            record(connection, machine, now, "person.second-factor", name, "on", "off")
            record(connection, machine, now, "person.close", name, after="second factor lost")
            closed.append(name)
    return closed
