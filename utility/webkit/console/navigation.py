"""The console's navigation: which pages a person is offered, by role, in at most five groups a role."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby

from utility.access.people import RIGHTS, STAFF, Actor, Right, Role

_WATCH = frozenset({Role.VIEWER, Role.OPERATOR, Role.ADMIN})


@dataclass(frozen=True)
class NavigationEntry:
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
    entries: tuple[NavigationEntry, ...]  # its pages; the link leads to the first

    def holds(self, here: str) -> bool:
        """Return whether a page is one of it, or below one."""
        return any(entry.holds(here) for entry in self.entries)


_ICONS = {
    "Town": "layout-dashboard",
    "Street": "layout-dashboard",
    "Alarms": "bell",
    "Operation": "sliders-horizontal",
    "Billing": "receipt-text",
    "Research": "flask-conical",
    "Home": "house",
    "Settings": "settings",
    "People": "users",
}

NAVIGATION = (
    NavigationEntry("Town", "Town", "/console/town", STAFF),
    NavigationEntry("Town", "Microgrids", "/console/microgrids", STAFF),
    NavigationEntry("Town", "Meters", "/console/meters", STAFF),
    NavigationEntry("Town", "Statistics", "/console/statistics", STAFF),
    NavigationEntry("Town", "Completeness", "/console/completeness", STAFF),
    NavigationEntry("Alarms", "Alarms", "/console/alarms", STAFF),
    NavigationEntry("Operation", "Schedules", "/console/schedules", STAFF),
    NavigationEntry("Operation", "Hours left", "/console/lasting", STAFF),
    NavigationEntry("Operation", "Not cut", "/console/spared", RIGHTS[Right.READ_SPARED]),
    NavigationEntry("Operation", "Fleet", "/console/fleet", STAFF),
    NavigationEntry("Operation", "System", "/console/system", _WATCH, below="/console/jobs"),
    NavigationEntry("Operation", "Requests", "/console/requests", _WATCH),
    NavigationEntry("Operation", "Devices", "/console/devices", RIGHTS[Right.READ_DEVICES]),
    NavigationEntry("Billing", "Months", "/console/runs", STAFF),
    NavigationEntry("Billing", "Bills", "/console/bills", RIGHTS[Right.READ_BILLS]),
    NavigationEntry("Billing", "Accounts", "/console/accounts", RIGHTS[Right.KEEP_ACCOUNTS]),
    NavigationEntry("Billing", "Mail", "/console/mail", RIGHTS[Right.SEND_MAIL]),
    NavigationEntry("Billing", "Ledger", "/console/ledger", RIGHTS[Right.READ_LEDGER]),
    NavigationEntry("Billing", "Entries", "/console/entries", RIGHTS[Right.READ_BILLS]),
    NavigationEntry("Billing", "Rates", "/console/rates", STAFF),
    NavigationEntry("Billing", "Replay", "/console/replay", STAFF),
    NavigationEntry("Billing", "Quarantine", "/console/quarantine", STAFF),
    NavigationEntry("Research", "Research", "/console/research", RIGHTS[Right.READ_RESEARCH]),
    NavigationEntry("Home", "Home", "/console/home", RIGHTS[Right.READ_OWN_HOME]),
    NavigationEntry("Settings", "Settings", "/console/settings", RIGHTS[Right.READ_OWN_HOME]),
    NavigationEntry("People", "People", "/console/users", RIGHTS[Right.MANAGE_PEOPLE]),
    NavigationEntry("People", "Audit log", "/console/audit", RIGHTS[Right.READ_AUDIT]),
)
"""All pages of the navigation, in its order; the first one that a person may open is the start page."""

TOUR = NavigationEntry("Town", "Tour", "/console/tour", STAFF)  # the page that only a demonstration has
# The pages that only the utility of a street has.
SETUP = NavigationEntry("Operation", "Setup", "/console/setup", RIGHTS[Right.SET_UP_STREET])


_OF_SEVERAL = {"/console/town", "/console/microgrids", "/console/fleet"}  # pages that a street of one has no use for
# The same if it runs by itself: it has no line, no plant and no orders from afar.
_OF_TOWNS = {"/console/schedules", "/console/spared", "/console/requests"}


def entries_for(
    actor: Actor, is_demonstration: bool, street: str = "", has_site: bool = False
) -> list[NavigationEntry]:
    """Return the pages that a person is offered.

    Args:
        street: The microgrid of a town that has one alone: its page is the first; empty: there are several.
        has_site: Whether the console sets up its devices.
    """
    known = [*NAVIGATION, *([TOUR] if is_demonstration else []), *([SETUP] if has_site else [])]
    pages = sorted(known, key=lambda entry: list(_ICONS).index(entry.group))
    if street:
        first = NavigationEntry("Street", "Street", f"/console/microgrids/{street}", STAFF)
        without = _OF_SEVERAL | _OF_TOWNS if has_site else _OF_SEVERAL
        others = (entry for entry in pages if entry.path not in without)
        pages = [first, *(replace(one, group="Street") if one.group == "Town" else one for one in others)]
    return [entry for entry in pages if actor.has(*entry.roles)]


def groups_of(entries: Iterable[NavigationEntry]) -> list[PageGroup]:
    """Return pages by their groups, in order."""
    by_group = groupby(entries, key=lambda entry: entry.group)
    return [PageGroup(title=title, icon=_ICONS[title], entries=tuple(some)) for title, some in by_group]
