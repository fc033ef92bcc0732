"""The console's navigation: which pages a person is offered, by role."""

from dataclasses import dataclass

from utility.access.actor import Actor
from utility.access.roles import STAFF, Role


@dataclass(frozen=True)
class Entry:
    """One page of the navigation."""

    title: str  # for people
    path: str  # its address
    roles: frozenset[Role]  # the roles that may open it


NAVIGATION = (
    Entry("Town", "/console/town", STAFF),
    Entry("Microgrids", "/console/microgrids", STAFF),
    Entry("Meters", "/console/meters", STAFF),
    Entry("Alarms", "/console/alarms", STAFF),
    Entry("Schedules", "/console/schedules", STAFF),
    Entry("Quarantine", "/console/quarantine", STAFF),
    Entry("Statistics", "/console/statistics", STAFF),
    Entry("Rates", "/console/rates", STAFF),
    Entry("Runs", "/console/runs", STAFF),
    Entry("Bills", "/console/bills", frozenset({Role.CLERK, Role.APPROVER})),
    Entry("Research", "/console/research", frozenset({Role.RESEARCHER, Role.CLERK, Role.APPROVER})),
    Entry("Home", "/console/home", frozenset({Role.RESIDENT})),
    Entry("Jobs", "/console/jobs", frozenset({Role.VIEWER, Role.OPERATOR, Role.ADMIN})),
    Entry("People", "/console/users", frozenset({Role.ADMIN})),
    Entry("Devices", "/console/devices", frozenset({Role.ADMIN, Role.OPERATOR})),
    Entry("Audit log", "/console/audit", frozenset({Role.ADMIN})),
)
"""All pages of the navigation, in its order; the first one that a person may open is the start page."""


def entries_for(actor: Actor) -> list[Entry]:
    """Return the entries that a person is offered."""
    return [entry for entry in NAVIGATION if actor.has(*entry.roles)]
