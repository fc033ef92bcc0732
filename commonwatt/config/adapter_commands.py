"""The settings of a foreign device's commands: what is published, how obedience is seen, and what ends it without us.

Examples stand in ``docs/adapters.md``.
"""

import json
import re
from decimal import Decimal
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from commonwatt.config.settings import Settings

CommandKind = Literal["share", "reduce", "isolate", "limit_import"]

PLACES = ("watts", "percent", "seconds", "until", "level", "device", "channel")
"""The places that a template may have, in braces."""

WILL_S = 45  # most seconds until a broker has published the will of an adapter or a machine that is gone

_PLACE = re.compile(r"\{([a-z_]+)\}")
_JSON = re.compile(r"\s*(\[|\{\s*[\"}])")


def fill(template: str, values: dict[str, str | int]) -> str:
    """Return a template with its places filled; where the template quotes, as JSON does, a text is escaped."""
    is_quoted = '"' in template

    def found(place: re.Match[str]) -> str:
        value = str(values[place[1]])
        return json.dumps(value)[1:-1] if is_quoted else value

    return _PLACE.sub(found, template)


def places_of(template: str) -> set[str]:
    """Return the names of the places in a template."""
    return set(_PLACE.findall(template))


def _check_template(template: str) -> str:
    if unknown := places_of(template) - set(PLACES):
        raise ValueError(f"{{{min(unknown)}}} is no place; there are: {', '.join(PLACES)}")
    if _JSON.match(template):
        try:
            json.loads(fill(template, dict.fromkeys(PLACES, 1)))
        except ValueError as error:
            raise ValueError(f"is no JSON once its places are filled: {error}") from None
    return template


def _check_plain(text: str) -> str:
    if set(text) & set("+#\0") or not text:
        raise ValueError("must be one topic: not empty, and without + and #")
    return text


PlainTopic = Annotated[str, AfterValidator(_check_plain)]  # a topic without wildcards
Template = Annotated[str, Field(max_length=1024), AfterValidator(_check_template)]  # a payload with places


def _as_text(given: object) -> object:
    if isinstance(given, bool):
        return str(given).lower()
    return str(given) if isinstance(given, (int, float, Decimal)) else given


# A state: a text or number, or the lowest and the highest number.
Shown: TypeAlias = tuple[Decimal, Decimal] | Annotated[Template, BeforeValidator(_as_text)]


class Confirm(Settings):
    """Where a device shows whether it obeys."""

    topic: PlainTopic = Field(description="The topic of its state; `{device}` and `{channel}` as in rules.")
    path: str = Field("", description="Path of the state in JSON; without it the payload is the state.")
    by: Literal["state", "power"] = Field(
        "state",
        description="`power`: it is a power in watts, and shows that it obeys from `percent` of `watts` on.",
    )
    on: Shown | None = Field(None, description="The state that means on: a value, or a list of lowest and highest.")
    off: Shown | None = Field(None, description="The state that means off; without it, any that is not on.")
    percent: int = Field(50, ge=1, le=100, description="Least share of `watts` by which a power confirms.")
    fresh_s: int | None = Field(
        None,
        ge=15,
        le=3600,
        description="Seconds for which a state counts without another message, of a device that shows it regularly or "
        "after each command; without it, for ever.",
    )
    sign: Literal["positive", "negative"] = Field(
        "positive", description="The sign of the power while the device gives."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.by == "power") == (self.on is not None):
            raise ValueError("confirm needs on, the state that means on; or by = 'power' without on")
        return self


class AdapterCommand(Settings):
    """How a foreign device is told a state, how the adapter sees that it obeys, and what ends the state without us."""

    preset: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$", description="The preset that the command belongs to.")
    kind: CommandKind = Field(
        description="`share`: its battery gives; `reduce`: it uses less; `isolate`: a switch at the boundary opens; "
        "`limit_import`: most watts from the town."
    )
    topic: PlainTopic = Field(
        description="Topic of the command; `{device}` and `{channel}` as in rules, `..` is the level above."
    )
    on: Template = Field(
        description="Payload when the state begins, and each `repeat_s`. Places: `{watts}` (of the meter, or of the "
        "limit), `{percent}` (the battery's minimum), `{level}` (its level, percent), `{seconds}` and `{until}` (its "
        "end, epoch seconds), `{device}`, `{channel}`."
    )
    off: Template = Field(description="Payload when the state ends.")
    qos: Literal[0, 1, 2] = Field(1, description="Quality of service.")
    repeat_s: int = Field(300, ge=5, le=3600, description="Seconds until `on` is published again while it holds.")
    confirm: Confirm | None = Field(
        None,
        description="A table, where the device shows its state: `topic`, `path`, `on`, `off`, or in place of both "
        "`by = 'power'` with `percent` of `watts` (50) and `sign`; `fresh_s`, for how long a state counts. Without the "
        "table the outcome is `unconfirmed`.",
    )
    confirm_s: int = Field(60, ge=5, le=100, description="Seconds within which it obeys; it is told three times.")
    failsafe: Literal["will", "watchdog", "none"] = Field(
        "none",
        description="What ends the state if the adapter is gone: `will`: the device's broker publishes `off`; "
        "`watchdog`: the device itself, when `on` is not repeated; `none`: nothing.",
    )
    failsafe_s: int | None = Field(
        None, ge=10, le=3600, description="Seconds after which a device with a watchdog returns by itself."
    )
    keepalive: PlainTopic | None = Field(
        None,
        description="Topic of an empty message each 25 s, for a device that stops to publish without; as `topic`.",
    )
    at_most_each_s: int = Field(5, ge=0, le=600, description="Least seconds between two commands: relays wear.")

    @property
    def ends_within_s(self) -> int | None:
        """Most seconds until the state has ended without the adapter; ``None``: it does not."""
        return {"will": WILL_S, "watchdog": self.failsafe_s, "none": None}[self.failsafe]

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if self.kind in ("isolate", "limit_import") and self.confirm is None:
            raise ValueError(f"{self.kind} needs confirm: at a boundary no state is believed unseen")
        if self.kind in ("isolate", "limit_import") and self.failsafe == "will":
            raise ValueError(f"{self.kind} can't have the failsafe will: no broker may close a boundary")
        if (self.failsafe == "watchdog") != (self.failsafe_s is not None):
            raise ValueError("failsafe_s is the maker's time of failsafe watchdog, and of no other")
        if self.failsafe_s is not None and 2 * self.repeat_s > self.failsafe_s:
            raise ValueError(f"repeat_s is at most half of failsafe_s, {self.failsafe_s // 2}")
        return self
