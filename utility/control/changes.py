"""Changes of gateways as values, what became of them, and the console's form of a change (pure)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from commonwatt.model.calendar import parse_time
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.protocol.controller_commands import PERIODS, Action
from utility.control.commands import Before, Fields, FieldsError, words_of
from utility.webkit.columns import Time

MAX_MICROGRIDS = 1_000  # most microgrids that a request names, and that an answer lists
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
class AskedChange:
    """A change of gateways: of named microgrids, of a kind, or of everyone."""

    action: Action
    fields: Annotated[Fields, Field(description="The keys of the command, as in docs/protocol.md.")] = field(
        default_factory=dict
    )
    microgrids: Annotated[Sequence[Annotated[str, Field(max_length=16)]], Field(max_length=MAX_MICROGRIDS)] = ()
    kind: Annotated[str, Field(max_length=16)] | None = None
    everyone: bool = False
    at: EpochSeconds | None = None  # when it is to be sent; ``None``: now
    valid_s: int = 3600  # seconds for which it is sent until answered
    seen: Annotated[
        Annotated[int, Field(ge=0, lt=2**63)] | None,
        Field(
            description="The newest change that was seen: a later one of its setting conflicts. A schedule needs it."
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ChangeTarget:
    """A change at one microgrid."""

    microgrid: MicrogridId  # the microgrid
    fields: Fields  # the command's fields, with ``cmd``
    before: Before | None  # what was in force when it was sent; ``None``: it was not sent
    command: str | None  # the command's id; ``None``: it was not sent
    state: State  # what became of it
    outcome: Mapping[str, Any] | None  # the gateway's answer; ``None``: there is none


@dataclass(frozen=True, kw_only=True)
class ControlChange:
    """A change of gateways that a person made."""

    no: int  # its number
    made: Time  # when it was asked for
    person: str  # the person
    action: Annotated[Action, Field(exclude=True)]  # the command
    # The command's fields with ``cmd``; ``None``: they differ by microgrid, as it puts back ``undoes``.
    fields: Annotated[Fields | None, Field(exclude=True)]
    what: str  # what it asks, in words
    due: Time  # when it is, or was, to be sent
    valid_s: Annotated[int, Field(exclude=True)]  # seconds for which it is sent until answered
    # ``planned``, ``sent``, ``cancelled``, or ``missed``: the service did not run when it was due.
    state: Literal["planned", "sent", "cancelled", "missed"]
    undoes: int | None  # the change that it puts back
    ended: Time | None  # when it was sent, cancelled or missed
    ended_by: str | None  # the person who cancelled it
    microgrids: int  # the number of its microgrids
    counts: Annotated[Mapping[State, int], Field(description="How many microgrids are in which state.")]
    waits: Annotated[bool, Field(description="Whether an answer may still come, or it is not sent yet.")]


def title(fields: Fields | None, undoes: int | None) -> str:
    """Return what a change asks, in words."""
    back = "" if undoes is None else f"put back change {undoes}"
    return ": ".join(filter(None, (back, "" if fields is None else words_of(fields))))


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


TITLES: dict[Action, str] = {
    Action.SCHEDULE: "Periods and how meters aggregate",
    Action.AGGREGATE: "Relay or send aggregated",
    Action.DEAGGREGATE: "Relay or send every reading",
    Action.SHARING: "Sharing: strategy",
    Action.REDUCE: "Reduce the load",
    Action.ISOLATE: "Run as an island",
    Action.HOLD: "Hold the batteries for a storm",
}
"""The changes that the page offers."""

LABELS = {
    "collect_s": "Seconds between collections from meters that do not send by themselves",
    "levels_s": "Seconds between requests for batteries' levels",
    "relay_s": "Seconds between batches to the utility",
    "put_s": "Seconds between the meters' sendings, whole minutes, at most 900",
    "compact_s": "Seconds between compactions in the gateway",
}
"""The periods' labels."""

_DURATIONS = {Action.AGGREGATE, Action.REDUCE, Action.ISOLATE, Action.HOLD}
_KEYS: dict[Action, Sequence[str]] = {
    Action.AGGREGATE: ("at", "mode"),
    Action.DEAGGREGATE: ("at",),
    Action.SHARING: ("strategy",),
    Action.REDUCE: ("state",),
    Action.ISOLATE: ("state",),
    Action.HOLD: ("state",),
}
_ACTIONS = {action.value: action for action in Action}
MAX_MINUTES = 60 * 24 * 366


def asked_by(form: Mapping[str, str], zone: ZoneInfo) -> AskedChange:
    """Return the change that a form asks for.

    Args:
        form: The fields: ``action``, ``which`` (``chosen``, ``kind`` or ``all``), ``microgrids``, ``kind``, ``when``
            (``now`` or ``later``), ``time``, ``seen``, and those of the action.
        zone: Local time.

    Raises:
        FieldsError: A field is wrong.
        ConfigError: The time is wrong.
    """
    if (action := _ACTIONS.get(form.get("action", ""))) is None:
        raise FieldsError(("action",), "{}: choose what to change")
    return AskedChange(
        action=action,
        fields=_fields(action, form),
        **_chosen(form),
        at=_time(form.get("time", ""), zone) if form.get("when") == "later" else None,
        seen=int(form["seen"]) if _is_number(form.get("seen", "")) else None,
    )


def _fields(action: Action, form: Mapping[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {key: form[key] for key in _KEYS.get(action, ()) if form.get(key)}
    if action is Action.SCHEDULE:
        given = {name: form.get(name, "").strip() for name in PERIODS}
        # ``reset``: none, as the gateway's file says.
        periods = {n: None if text == "reset" else _whole(n, text, 86_400) for n, text in given.items() if text}
        fields = {"periods": periods} | ({"meters": form["meters"]} if form.get("meters") else {})
    if action in _DURATIONS and form.get("minutes", "").strip() and form.get("state") != "off":
        fields["for_s"] = 60 * _whole("minutes", form["minutes"].strip(), MAX_MINUTES)
    return fields


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def _whole(name: str, text: str, most: int) -> int:
    if not (_is_number(text) and 0 < int(text) <= most):
        more = " or the word reset" if name in PERIODS else ""
        raise FieldsError((name,), f"{{}}: a whole number up to {most}{more} is wanted")
    return int(text)


def _chosen(form: Mapping[str, str]) -> dict[str, Any]:
    match form.get("which"):
        case "all":
            return {"everyone": True}
        case "kind":
            return {"kind": form.get("kind", "")}
    return {"microgrids": tuple(form.get("microgrids", "").replace(",", " ").split())}


def _time(text: str, zone: ZoneInfo) -> int:
    if not text:
        raise ConfigError("a later change needs a time")
    return parse_time(text, "", zone)


def local_input(time: int, zone: ZoneInfo) -> str:
    """Return a time as a browser's field of local times wants it."""
    return datetime.fromtimestamp(time, zone).strftime("%Y-%m-%dT%H:%M")
