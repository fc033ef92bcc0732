"""The console's form of a change: its fields as text, and the change that they ask for (pure)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.times import parse_time
from commonwatt.protocol.controller_commands import PERIODS, Action
from utility.control.changes import Asked, Chosen
from utility.control.fields import FieldsError

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


def asked_by(form: Mapping[str, str], zone: ZoneInfo) -> Asked:
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
    return Asked(
        action=action,
        fields=_fields(action, form),
        chosen=_chosen(form),
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


def _chosen(form: Mapping[str, str]) -> Chosen:
    match form.get("which"):
        case "all":
            return Chosen(everyone=True)
        case "kind":
            return Chosen(kind=form.get("kind", ""))
    return Chosen(microgrids=tuple(form.get("microgrids", "").replace(",", " ").split()))


def _time(text: str, zone: ZoneInfo) -> int:
    if not text:
        raise ConfigError("a later change needs a time")
    return parse_time(text, "", zone)


def local_input(time: int, zone: ZoneInfo) -> str:
    """Return a time as a browser's field of local times wants it."""
    return datetime.fromtimestamp(time, zone).strftime("%Y-%m-%dT%H:%M")
