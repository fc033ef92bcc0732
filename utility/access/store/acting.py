"""A person who changes something of people, with the audit log; the link with which a person chooses a password."""

from dataclasses import dataclass

from sqlalchemy import Connection

from commonwatt.model.units import EpochSeconds
from utility.access.actor import Actor
from utility.access.store import audit_log


@dataclass(frozen=True, kw_only=True)
class By:
    """The person who makes a change, and the time."""

    connection: Connection  # the transaction of the change
    actor: Actor  # the person or program
    now: EpochSeconds  # the time of the service's clock, for the audit log
    machine_s: EpochSeconds  # the machine's epoch seconds, by which links and tokens end

    def record(self, action: str, subject: str, before: object = None, after: object = None) -> None:
        """Add an entry to the audit log."""
        audit_log.record(self.connection, self.actor, self.now, action, subject, before, after)


@dataclass(frozen=True, kw_only=True)
class Link:
    """A link with which a person chooses a password, once."""

    name: str  # the person
    secret: str  # the end of the link; it is stored nowhere
    until: EpochSeconds  # when it ends, machine's epoch seconds

    @property
    def path(self) -> str:
        """The path of the link."""
        return f"/console/invitation/{self.secret}"
