"""A change of gateways as values: what is asked, of which microgrids, what was before, and what became of it (pure)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.protocol.controller_commands import Action
from utility.control.fields import Fields
from utility.control.in_force import Before

DONE = ("done", "repeated", "partial")
"""Results of a command that was carried out."""

State = Literal["planned", "cancelled", "missed", "open", "done", "refused", "expired", "superseded"]
"""What became of a change at one microgrid: ``open``: no answer yet; ``refused``: the gateway did not do it."""


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
    """The microgrids of a change: exactly one of the three.

    Attributes:
        microgrids: Their names.
        kind: All of a kind, such as ``residential``.
        everyone: All.
    """

    microgrids: tuple[MicrogridId, ...] = ()
    kind: str | None = None
    everyone: bool = False


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A change that a person asks for.

    Attributes:
        action: The command.
        fields: Its fields.
        chosen: The microgrids.
        at: When it is to be sent; ``None``: now.
        valid_s: Seconds for which it is sent until answered.
        seen: The newest change when the form was made (``newest_change``): a later one of the same setting of one of
            the microgrids is a conflict. ``None``: no matter what changed.
    """

    action: Action
    fields: Fields
    chosen: Chosen
    at: EpochSeconds | None = None
    valid_s: int = 3600
    seen: int | None = None


@dataclass(frozen=True, kw_only=True)
class Target:
    """A change at one microgrid.

    Attributes:
        microgrid: The microgrid.
        fields: The command's fields, with ``cmd``.
        before: What was in force when it was sent; ``None``: it was not sent.
        command: The command's id; ``None``: it was not sent.
        state: What became of it.
        outcome: The gateway's answer; ``None``: there is none.
    """

    microgrid: MicrogridId
    fields: Fields
    before: Before | None
    command: str | None
    state: State
    outcome: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change that a person made.

    Attributes:
        no: Its number.
        made: When it was asked for.
        person: The person.
        action: The command.
        fields: The command's fields with ``cmd``; ``None``: they differ by microgrid, as it puts back ``undoes``.
        due: When it is, or was, to be sent.
        valid_s: Seconds for which it is sent until answered.
        state: ``planned``, ``sent``, ``cancelled``, or ``missed``: the service did not run when it was due.
        undoes: The change that it puts back.
        ended: When it was sent, cancelled or missed.
        ended_by: The person who cancelled it.
        microgrids: The number of its microgrids.
        counts: How many of them are in which state.
    """

    no: int
    made: EpochSeconds
    person: str
    action: Action
    fields: Fields | None
    due: EpochSeconds
    valid_s: int
    state: Literal["planned", "sent", "cancelled", "missed"]
    undoes: int | None
    ended: EpochSeconds | None
    ended_by: str | None
    microgrids: int
    counts: Mapping[State, int]

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
