"""A change of gateways as values: what is asked, of which microgrids, what was before, and what became of it (pure)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.protocol.controller_commands import Action
from utility.control.fields import Fields
from utility.control.in_force import Before

DONE = ("done", "repeated", "partial")  # results of a command that was carried out
# What became of a change at one microgrid: ``open``: no answer yet; ``refused``: the gateway did not do it.
State = Literal["planned", "cancelled", "missed", "open", "done", "refused", "expired", "superseded"]


class ChangeError(ConfigError):
    """A change can't be made; nothing was changed."""


class NoSuchChangeError(ChangeError):
    """There is no change of that number."""


class NewerChangeError(ChangeError):
    """Another person changed the same setting since."""


class AllowanceError(ChangeError):
    """The change would break the allowance of an LTE line."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The microgrids of a change: exactly one of the three."""

    microgrids: tuple[MicrogridId, ...] = ()  # their names
    kind: str | None = None  # all of a kind, such as ``residential``
    everyone: bool = False  # all


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A change that a person asks for."""

    action: Action  # the command
    fields: Fields  # its fields
    chosen: Chosen  # the microgrids
    at: EpochSeconds | None = None  # when it is to be sent; ``None``: now
    valid_s: int = 3600  # seconds for which it is sent until answered
    # The newest change when the form was made (``newest_change``): a later one of the same setting of one of the
    # microgrids is a conflict. ``None``: no matter what changed.
    seen: int | None = None


@dataclass(frozen=True, kw_only=True)
class Target:
    """A change at one microgrid."""

    microgrid: MicrogridId  # the microgrid
    fields: Fields  # the command's fields, with ``cmd``
    before: Before | None  # what was in force when it was sent; ``None``: it was not sent
    command: str | None  # the command's id; ``None``: it was not sent
    state: State  # what became of it
    outcome: Mapping[str, Any] | None  # the gateway's answer; ``None``: there is none


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change that a person made."""

    no: int  # its number
    made: EpochSeconds  # when it was asked for
    person: str  # the person
    action: Action  # the command
    # The command's fields with ``cmd``; ``None``: they differ by microgrid, as it puts back ``undoes``.
    fields: Fields | None
    due: EpochSeconds  # when it is, or was, to be sent
    valid_s: int  # seconds for which it is sent until answered
    # ``planned``, ``sent``, ``cancelled``, or ``missed``: the service did not run when it was due.
    state: Literal["planned", "sent", "cancelled", "missed"]
    undoes: int | None  # the change that it puts back
    ended: EpochSeconds | None  # when it was sent, cancelled or missed
    ended_by: str | None  # the person who cancelled it
    microgrids: int  # the number of its microgrids
    counts: Mapping[State, int]  # how many of them are in which state

    @property
    def waits(self) -> bool:
        """Whether an answer may still come, or it is not sent yet."""
        return self.state == "planned" or bool(self.counts.get("open"))


def state_of(change: str, command: str | None, result: str | None) -> State:
    """Return what became of a change at one microgrid.

    Args:
        change: The state of the change.
        command: The state of its command (``open``, ``done``, ``expired``, ``superseded``); ``None``: none was sent.
        result: The result in the gateway's answer; ``None``: there is no answer.
    """
    if command is None:
        return change if change in ("planned", "cancelled", "missed") else "expired"  # type: ignore[return-value]
    if command == "done":
        return "done" if result in DONE else "expired" if result == "expired" else "refused"
    return command  # type: ignore[return-value]
