"""Roles of people: each allows some routes (docs/console.md has the table)."""

from enum import StrEnum


class Role(StrEnum):
    """What a person may do; a person may have several roles."""

    VIEWER = "viewer"  # reads the town: microgrids, meters, alarms, jobs
    OPERATOR = "operator"  # commands, schedules, alarms
    CLERK = "clerk"  # rates, bills, quarantine
    APPROVER = "approver"  # the second person for what a clerk proposed
    RESEARCHER = "researcher"  # the releases of an own agreement
    RESIDENT = "resident"  # the own account only
    ADMIN = "admin"  # people, tokens, audit, jobs, devices


STAFF = frozenset({Role.VIEWER, Role.OPERATOR, Role.CLERK, Role.APPROVER, Role.ADMIN})
"""The roles that may read the whole town."""

NEED_SECOND_FACTOR: dict[str, frozenset[Role]] = {
    "optional": frozenset(),
    "approvers": frozenset({Role.APPROVER}),
    "staff": STAFF,
    "everybody": frozenset(Role),
}
"""Roles of which a second factor is required, by the setting `second_factor`."""
