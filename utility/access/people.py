"""People and programs: roles, who asks, what may be changed of them, a list of residents to invite (pure)."""

import csv
import io
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import line_of, text_of
from commonwatt.model.units import AccountNumber


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
    READ_DEVICES = "see which devices are enrolled, and which an adapter hears"
    MANAGE_DEVICES = "enrol, revoke and readmit devices"
    MANAGE_JOBS = "run, pause and change jobs"
    MANAGE_PEOPLE = "invite people, give roles, end sessions"
    SET_UP_STREET = "set up a street: its broker, devices, homes and sharing"
    READ_AUDIT = "read the audit log"
    END_REFUSALS = "mark refused attempts as seen, which ends their alarm"
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
    Right.SET_UP_STREET: _ADMIN,
    Right.READ_AUDIT: _ADMIN,
    Right.END_REFUSALS: _ADMIN,
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

MACHINE = "this-machine"
"""The actor's name of programs that can read the utility's token file, such as the commands on its machine."""


class Via(StrEnum):
    """How an actor proved its identity."""

    SESSION = "session"
    TOKEN = "token"  # noqa: S105 - a word
    MACHINE = "machine"


@dataclass(frozen=True, kw_only=True)
class Actor:
    """The person, or program, that acts."""

    name: str  # the person's name, as in the table ``person``
    roles: frozenset[Role]  # the roles in force for this request
    account: int | None  # the account of a resident; ``None``: none
    via: Via  # how the identity was proved
    address: str  # the client's network address
    csrf: str = ""  # what a form of this session has to contain; empty without a session
    session: str = ""  # the digest of the session; empty without one
    token: int | None = None  # the number of the API token; ``None``: it is none
    # Whether a second factor is required of the person, who has none; there are no roles then.
    lacks_factor: bool = False

    def has(self, *roles: Role) -> bool:
        """Return whether the actor has one of some roles."""
        return not self.roles.isdisjoint(roles)

    def may(self, right: Right) -> bool:
        """Return whether the actor may do it."""
        return self.has(*RIGHTS[right])

    def has_all(self, roles: Collection[Role]) -> bool:
        """Return whether the actor has each of some roles."""
        return self.roles.issuperset(roles)


def on_machine(name: str) -> Actor:
    """Return a user of the utility's machine, where no login proves the name."""
    return Actor(name=name, roles=frozenset(), account=None, via=Via.MACHINE, address="")


NAME_PATTERN = r"^[a-z][a-z0-9._-]{0,31}$"  # the form of a name at login, as of the people in the utility's file
MAX_DISPLAY = 64  # most characters of a name for people, and of a token's label

DAY_S, HOUR_S = 86_400, 3_600

MAX_TOKEN_DAYS = 365  # longest validity of a token, days
# Names of actors that are no people: commands on the utility's machine, and the service's jobs.
RESERVED = frozenset({MACHINE, "machine", "service"})

_NAME = re.compile(NAME_PATTERN)


class AccessFaultError(ConfigError):
    """A change of people or tokens that is refused; nothing was changed."""


@dataclass(frozen=True, kw_only=True)
class NewPerson:
    """A person to be invited."""

    name: str  # the name at login
    display: str = ""  # the name for people; empty: the name
    roles: frozenset[Role]  # the roles
    account: AccountNumber | None = None  # a resident's account; ``None``: none


def check_person(new: NewPerson) -> None:
    """Check what an invitation says.

    Raises:
        AccessFaultError: The name, the display, the roles or the account is wrong.
    """
    if new.name in RESERVED:
        raise AccessFaultError(f"name: {new.name} is reserved for actions without a person; take another")
    if not _NAME.fullmatch(new.name):
        raise AccessFaultError(
            f"name: {new.name!r:.40} is no name: it begins with a letter, and has at most 32 lower-case letters, "
            "digits, dots, hyphens and underscores"
        )
    check_text("display", new.display)
    check_roles(new.roles, new.account)


def check_roles(roles: Collection[Role], account: AccountNumber | None) -> None:
    """Check that roles and account go together.

    Raises:
        AccessFaultError: There is no role, or a resident without an account, or an account without a resident.
    """
    if not roles:
        raise AccessFaultError("roles: give one or more")
    if (Role.RESIDENT in roles) != (account is not None):
        raise AccessFaultError("account: a resident needs the number of an account, and only a resident has one")


def check_text(name: str, text: str) -> None:
    """Check a short text for people."""
    if len(text) > MAX_DISPLAY or not text.isprintable():
        raise AccessFaultError(f"{name}: has more than {MAX_DISPLAY} characters, or some that can't be shown")


def check_token(label: str, scope: Collection[Role], roles: Collection[Role], hours: int) -> None:
    """Check what a new token says."""
    if not label.strip():
        raise AccessFaultError("label: say what the token is for, such as: export to the planning office")
    check_text("label", label)
    if not scope:
        raise AccessFaultError("roles: give one or more of your own")
    if beyond := sorted(set(scope) - set(roles)):
        raise AccessFaultError(f"roles: you do not have the role {beyond[0]} yourself")
    if not 0 < hours <= 24 * MAX_TOKEN_DAYS:
        raise AccessFaultError(f"days: a token is valid for 1 to {MAX_TOKEN_DAYS} days")


COLUMNS = ("account", "name", "display")  # the columns; `account` is needed, the others may be left out
MOST = 1_000  # most residents of one list

_MAX_ACCOUNT = 65_535


def read_residents(content: str) -> list[NewPerson]:
    """Return the residents that a list names; without a name, that of account 17 is ``account17``.

    Raises:
        AccessFaultError: The list has a mistake; names its row.
    """
    reader = csv.reader(io.StringIO(content.lstrip("\ufeff").strip()), skipinitialspace=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise AccessFaultError(f"row {reader.line_num}: can't be read as CSV: {error}") from error
    if not rows or "account" not in (head := [cell.strip().lower() for cell in rows[0]]):
        raise AccessFaultError(f"row 1: has the names of the columns: {', '.join(COLUMNS)}; `account` is needed")
    if unknown := [name for name in head if name not in COLUMNS]:
        raise AccessFaultError(f"row 1: {unknown[0]!r:.40} is no column; there are {', '.join(COLUMNS)}")
    rows[1:] = [list(map(text_of, row)) for row in rows[1:]]
    if len(rows) - 1 > MOST:
        raise AccessFaultError(f"has {len(rows) - 1:,} residents; a list has at most {MOST:,}: make several")
    found = [_resident(place, dict(zip(head, row, strict=False))) for place, row in enumerate(rows[1:], 2) if row]
    if not found:
        raise AccessFaultError("row 2: there is no resident")
    return found


def links_table(links: Iterable[tuple[NewPerson, str]]) -> Iterator[str]:
    """Yield the lines of the list of links: account, name, link."""
    yield line_of(("account", "name", "link"))
    for one, link in links:
        yield line_of((one.account, one.name, link))


def _resident(row: int, cells: dict[str, str]) -> NewPerson:
    text = cells["account"].strip()
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0
    if not 1 <= number <= _MAX_ACCOUNT:
        raise AccessFaultError(f"row {row}, column account: {text!r:.20} is no account's number")
    name = cells.get("name", "").strip() or f"account{number}"
    display = cells.get("display", "").strip()
    return NewPerson(name=name, display=display, roles=frozenset({Role.RESIDENT}), account=number)
