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


class Right(StrEnum):
    """What is done by a route, a command or a page, in words."""

    READ_TOWN = "read the whole town"
    SEND_COMMANDS = "send commands and schedules to gateways"
    HANDLE_ALARMS = "acknowledge and silence alarms"
    RUN_ROLLOUTS = "begin and stop an upgrade of controllers, ask for reports"
    APPROVE_ROLLOUTS = "approve an upgrade of controllers"
    PIN_METERS = "pin a meter to a collector"
    READ_DEVICES = "see which devices are enrolled"
    MANAGE_DEVICES = "enrol, revoke and readmit devices"
    MANAGE_JOBS = "run, pause and change jobs"
    MANAGE_PEOPLE = "invite people, give roles, end sessions"
    READ_AUDIT = "read the audit log"
    CORRECT_READINGS = "decide about quarantined readings, correct readings"
    READ_SPARED = "see which homes are not cut"
    KEEP_ACCOUNTS = "propose accounts and moves"
    APPROVE_ACCOUNTS = "approve what another person proposed of accounts"
    PROPOSE_PRICES = "propose tariffs"
    PREVIEW_PRICES = "compute bills at other prices"
    PUBLISH_PRICES = "publish a tariff that another person proposed"
    READ_BILLS = "read all bills"
    MAKE_BILLS = "make and check bills"
    ISSUE_BILLS = "issue bills that another person checked"
    ENTER_BILLS = "enter goodwill, fees and credit notes"
    APPROVE_ENTRIES = "approve an entry of another person"
    WITHDRAW_ENTRIES = "withdraw an entry"
    READ_LEDGER = "read the ledger"
    KEEP_LEDGER = "book payments"
    APPROVE_LEDGER = "release debit orders, close months"
    SEND_MAIL = "send bills by mail"
    READ_RELEASES = "read releases and agreements of research"
    PREPARE_RELEASES = "make releases, answer requests of researchers"
    APPROVE_RELEASES = "approve releases and agreements"
    READ_RESEARCH = "read what research has and asks for"
    ASK_FOR_DATA = "ask for data with a purpose"
    DOWNLOAD_RELEASES = "download open releases and answers to the own requests"
    READ_OWN_HOME = "see and set the own home"
    READ_OPENADR = "read prices and limits by OpenADR"
    USE_CONSOLE = "open the pages that all people have"
    CHANGE_OWN_LOGIN = "change the own password, second factor, tokens and sessions"


STAFF = frozenset({Role.VIEWER, Role.OPERATOR, Role.CLERK, Role.APPROVER, Role.ADMIN})
"""The roles that may read the whole town."""

PEOPLE = frozenset({*STAFF, Role.RESEARCHER, Role.RESIDENT})
"""The roles that open pages; ``ven`` opens nothing but OpenADR."""

_OPERATOR, _CLERK, _APPROVER, _ADMIN = (
    frozenset({role}) for role in (Role.OPERATOR, Role.CLERK, Role.APPROVER, Role.ADMIN)
)
_OFFICE = _CLERK | _APPROVER

RIGHTS: dict[Right, frozenset[Role]] = {
    Right.READ_TOWN: STAFF,
    Right.SEND_COMMANDS: _OPERATOR,
    Right.HANDLE_ALARMS: _OPERATOR,
    Right.RUN_ROLLOUTS: _OPERATOR,
    Right.APPROVE_ROLLOUTS: _APPROVER,
    Right.PIN_METERS: _OPERATOR,
    Right.READ_DEVICES: frozenset({Role.ADMIN, Role.OPERATOR}),
    Right.MANAGE_DEVICES: _ADMIN,
    Right.MANAGE_JOBS: _ADMIN,
    Right.MANAGE_PEOPLE: _ADMIN,
    Right.READ_AUDIT: _ADMIN,
    Right.CORRECT_READINGS: _CLERK,
    Right.READ_SPARED: _OFFICE | _OPERATOR,
    Right.KEEP_ACCOUNTS: _CLERK,
    Right.APPROVE_ACCOUNTS: _APPROVER,
    Right.PROPOSE_PRICES: _CLERK,
    Right.PREVIEW_PRICES: _OFFICE,
    Right.PUBLISH_PRICES: _APPROVER,
    Right.READ_BILLS: _OFFICE,
    Right.MAKE_BILLS: _CLERK,
    Right.ISSUE_BILLS: _APPROVER,
    Right.ENTER_BILLS: _CLERK,
    Right.APPROVE_ENTRIES: _APPROVER,
    Right.WITHDRAW_ENTRIES: _OFFICE,
    Right.READ_LEDGER: _OFFICE,
    Right.KEEP_LEDGER: _CLERK,
    Right.APPROVE_LEDGER: _APPROVER,
    Right.SEND_MAIL: _CLERK,
    Right.READ_RELEASES: _OFFICE,
    Right.PREPARE_RELEASES: _CLERK,
    Right.APPROVE_RELEASES: _APPROVER,
    Right.READ_RESEARCH: _OFFICE | {Role.RESEARCHER},
    Right.ASK_FOR_DATA: _CLERK | {Role.RESEARCHER},
    Right.DOWNLOAD_RELEASES: frozenset({Role.RESEARCHER}),
    Right.READ_OWN_HOME: frozenset({Role.RESIDENT}),
    Right.READ_OPENADR: frozenset({Role.VEN}),
    Right.USE_CONSOLE: PEOPLE,
    Right.CHANGE_OWN_LOGIN: frozenset(Role),
}
"""The roles that may do it."""

NEED_SECOND_FACTOR: dict[str, frozenset[Role]] = {
    "optional": frozenset(),
    "approvers": _APPROVER,
    "staff": STAFF,
    "everybody": frozenset(Role),
}
"""Roles of which a second factor is required, by the setting `second_factor`."""
