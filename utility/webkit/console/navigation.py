"""The console's navigation: which pages a person is offered, by role, in at most five groups a role."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from utility.access.people import RIGHTS, STAFF, Actor, Right, Role

_WATCH = frozenset({Role.VIEWER, Role.OPERATOR, Role.ADMIN})


@dataclass(frozen=True)
class Entry:
    """One page of the navigation."""

    group: str  # the group that it is a segment of, for people
    title: str  # for people
    path: str  # its address
    roles: frozenset[Role]  # the roles that may open it
    below: str = ""  # where its other pages are; empty: below its address

    def holds(self, here: str) -> bool:
        """Return whether a page is it, or one of its other pages."""
        return here.startswith((self.path, self.below or self.path))


@dataclass(frozen=True, kw_only=True)
class PageGroup:
    """Pages of one subject: a link of the navigation, its pages below it; on a phone they are segments in the head."""

    title: str  # for people
    icon: str  # the name of its icon
    entries: tuple[Entry, ...]  # its pages; the link leads to the first

    def holds(self, here: str) -> bool:
        """Return whether a page is one of it, or below one."""
        return any(entry.holds(here) for entry in self.entries)


_ICONS = {
    "Town": "layout-dashboard",
    "Alarms": "bell",
    "Operation": "sliders-horizontal",
    "Billing": "receipt-text",
    "Research": "flask-conical",
    "Home": "house",
    "Settings": "settings",
    "People": "users",
}

NAVIGATION = (
    Entry("Town", "Town", "/console/town", STAFF),
    Entry("Town", "Microgrids", "/console/microgrids", STAFF),
    Entry("Town", "Meters", "/console/meters", STAFF),
    Entry("Town", "Statistics", "/console/statistics", STAFF),
    Entry("Town", "Completeness", "/console/completeness", STAFF),
    Entry("Alarms", "Alarms", "/console/alarms", STAFF),
    Entry("Operation", "Schedules", "/console/schedules", STAFF),
    Entry("Operation", "Hours left", "/console/lasting", STAFF),
    Entry("Operation", "Not cut", "/console/spared", RIGHTS[Right.READ_SPARED]),
    Entry("Operation", "Fleet", "/console/fleet", STAFF),
    Entry("Operation", "System", "/console/system", _WATCH, below="/console/jobs"),
    Entry("Operation", "Requests", "/console/requests", _WATCH),
    Entry("Operation", "Devices", "/console/devices", RIGHTS[Right.READ_DEVICES]),
    Entry("Billing", "Months", "/console/runs", STAFF),
    Entry("Billing", "Bills", "/console/bills", RIGHTS[Right.READ_BILLS]),
    Entry("Billing", "Accounts", "/console/accounts", RIGHTS[Right.KEEP_ACCOUNTS]),
    Entry("Billing", "Mail", "/console/mail", RIGHTS[Right.SEND_MAIL]),
    Entry("Billing", "Ledger", "/console/ledger", RIGHTS[Right.READ_LEDGER]),
    Entry("Billing", "Entries", "/console/entries", RIGHTS[Right.READ_BILLS]),
    Entry("Billing", "Rates", "/console/rates", STAFF),
    Entry("Billing", "Replay", "/console/replay", STAFF),
    Entry("Billing", "Quarantine", "/console/quarantine", STAFF),
    Entry("Research", "Research", "/console/research", RIGHTS[Right.READ_RESEARCH]),
    Entry("Home", "Home", "/console/home", RIGHTS[Right.READ_OWN_HOME]),
    Entry("Settings", "Settings", "/console/settings", RIGHTS[Right.READ_OWN_HOME]),
    Entry("People", "People", "/console/users", RIGHTS[Right.MANAGE_PEOPLE]),
    Entry("People", "Audit log", "/console/audit", RIGHTS[Right.READ_AUDIT]),
)
"""All pages of the navigation, in its order; the first one that a person may open is the start page."""

TOUR = Entry("Town", "Tour", "/console/tour", STAFF)  # the page that only a demonstration has


def entries_for(actor: Actor, is_demonstration: bool) -> list[Entry]:
    """Return the pages that a person is offered."""
    pages = sorted([*NAVIGATION, TOUR], key=lambda entry: entry.group != "Town") if is_demonstration else NAVIGATION
    return [entry for entry in pages if actor.has(*entry.roles)]


def groups_of(entries: Iterable[Entry]) -> list[PageGroup]:
    """Return pages by their groups, in order."""
    by_group = groupby(entries, key=lambda entry: entry.group)
    return [PageGroup(title=title, icon=_ICONS[title], entries=tuple(some)) for title, some in by_group]
