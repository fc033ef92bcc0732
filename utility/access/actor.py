"""The person, or program, that makes a request."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from utility.access.roles import Role

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

    def has_all(self, roles: Collection[Role]) -> bool:
        """Return whether the actor has each of some roles."""
        return self.roles.issuperset(roles)


def on_machine(name: str) -> Actor:
    """Return a user of the utility's machine, where no login proves the name."""
    return Actor(name=name, roles=frozenset(), account=None, via=Via.MACHINE, address="")
