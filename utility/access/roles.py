"""Roles of people: each allows some routes (docs/console.md has the table)."""

from enum import StrEnum


class Role(StrEnum):
    """What a person may do; a person may have several roles."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    CLERK = "clerk"
    APPROVER = "approver"
    RESEARCHER = "researcher"
    RESIDENT = "resident"
    ADMIN = "admin"
    VEN = "ven"


ROLE_WORDS: dict[Role, str] = {
    Role.VIEWER: "Reads the town: microgrids, meters, alarms, jobs. Changes nothing.",
    Role.OPERATOR: "Reads the town, sends commands and schedules to gateways, silences alarms.",
    Role.CLERK: "Reads the town, proposes rates, makes and checks bills, decides about quarantined readings.",
    Role.APPROVER: "Reads the town, publishes rates and issues bills that another person proposed or checked.",
    Role.RESEARCHER: "Downloads open releases, and those that answer the own requests.",
    Role.RESIDENT: "Sees the own account alone: energy, sharing, bills. Needs the number of the account.",
    Role.ADMIN: "Invites people, gives roles, ends sessions and tokens, reads the audit log, changes jobs and devices.",
    Role.VEN: "For the tokens of energy managers: reads prices, supply states and import limits by OpenADR.",
}
"""What a person of each role may do, at the role's box."""


STAFF = frozenset({Role.VIEWER, Role.OPERATOR, Role.CLERK, Role.APPROVER, Role.ADMIN})
"""The roles that may read the whole town."""

PEOPLE = frozenset(Role) - {Role.VEN}
"""The roles that open pages; ``ven`` opens nothing but OpenADR."""

NEED_SECOND_FACTOR: dict[str, frozenset[Role]] = {
    "optional": frozenset(),
    "approvers": frozenset({Role.APPROVER}),
    "staff": STAFF,
    "everybody": frozenset(Role),
}
"""Roles of which a second factor is required, by the setting `second_factor`."""
