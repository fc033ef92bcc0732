"""What may be changed of people and tokens, and the words of a fault (pure)."""

import re
from collections.abc import Collection
from dataclasses import dataclass

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import AccountNumber
from utility.access.actor import MACHINE
from utility.access.roles import Role

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
