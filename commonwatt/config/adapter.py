"""The settings of an adapter: brokers, foreign meters, rules that read their messages, commands of devices.

The fields are the reference for ``docs/reference/settings.md``; examples stand in ``docs/adapters.md``.

The settings of a foreign device's commands: what is published, how obedience is seen, and what ends it without us.
Examples stand in ``docs/adapters.md``.
"""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, field_validator, model_validator

from commonwatt.config.settings import (
    BROKER_CA,
    BROKER_REVOKED,
    HTTP_HOSTS,
    HTTP_PLAIN_TEXT,
    OTHER_CA,
    OTHER_PLAIN_TEXT,
    PLAIN_TEXT,
    HostName,
    MicrogridName,
    Reach,
    Settings,
    Zone,
)
from commonwatt.network.addresses import Address

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

    gone: ClassVar[Mapping[str, str]] = {"qos": "is fixed: commands have quality of service 1; remove the key"}

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


Kind = Literal["register", "interval", "power", "level"]


def check_topic(text: str) -> str:
    """Return a topic filter.

    Raises:
        ValueError: MQTT does not allow it.
    """
    levels = text.split("/")
    if any("#" in level and (level != "#" or n < len(levels) - 1) for n, level in enumerate(levels)):
        raise ValueError("# must be the last level of a topic, and alone in it")
    if any("+" in level and level != "+" for level in levels):
        raise ValueError("+ must be alone in its level of a topic")
    if "\0" in text or not text:
        raise ValueError("is no topic")
    return text


Topic = Annotated[str, AfterValidator(check_topic)]  # a topic, which may have MQTT's wildcards


# A list may be one text.
_ALONE = BeforeValidator(
    lambda given: (given,) if isinstance(given, str) else given, json_schema_input_type=str | tuple[str, ...]
)


JSON_INSTEAD = 'let a bridge publish the value as JSON, and read that with format = "json"'
"""What to do in place of the formats that are gone, SenML and Influx's lines."""


class AdapterRule(Settings):
    """How a value is read from a message. Rules of the same preset and record type are tried in their order."""

    preset: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$", description="The preset that the rule belongs to.")
    topic: Annotated[tuple[Topic, ...], _ALONE] = Field(
        description="The topic, with MQTT's wildcards; `{device}` is the meter's `source`, `{channel}` its `channel`. "
        "Of Sparkplug `spBv1.0/GROUP/+/NODE/DEVICE`. Numbers of several topics are added up; with one path for all "
        "or one for each."
    )
    format: Literal["json", "plain", "p1", "csv", "bytes", "sparkplug"] = Field(
        "json",
        description="JSON, a plain number, a DSMR telegram, lines of numbers with semicolons, tabs or commas, bytes of "
        "one whole number, or Sparkplug B, whose own time counts.",
    )
    path: Annotated[tuple[str, ...], _ALONE] = Field(
        (),
        description="Where the value is: keys of JSON objects and numbers of list elements, joined by dots, `*` for "
        "any one key; an OBIS code of a telegram; the number of a field; the name of a Sparkplug metric. Several "
        "paths, and the elements of a list, are added up.",
    )
    factors: Annotated[tuple[Decimal, ...], Field(max_length=16)] = Field(
        (),
        description="A factor of each path, or of each topic if there are several: `[65536, 1]` for a counter in two "
        "words of 16 bits. When a word of several topics changes, but for a rise of the lowest, each must come again.",
    )
    number: Literal["en", "de", "hex"] = Field(
        "en",
        description="How numbers are written: `12.5`, `1.234,5` or hexadecimal; a unit may follow, and then counts.",
    )
    float32: bool = Field(False, description="Whether the number, words together, is the bits of a 4-byte float.")
    less: Annotated[tuple[str, ...], _ALONE] = Field((), description="Paths whose values are subtracted.")
    kind: Kind = Field(
        description="`register`: a cumulative counter; `interval`: energy since the message before; `power`: is "
        "integrated; `level`: of a battery."
    )
    type: Literal["through", "generation", "stored"] | None = Field(
        None, description="The record type; without it `stored` for a level, else `through`."
    )
    direction: Literal["incoming", "outgoing"] | None = Field(
        None, description="Only meters of this direction use the rule; without it, meters of both."
    )
    unit: Literal["mWh", "Wh", "kWh", "MWh", "J", "Wmin", "mW", "W", "kW", "%"] = Field(
        description="The value's unit; `%` of the battery's capacity, for a level."
    )
    unit_path: str | None = Field(
        None, description="Path of the unit's text, which then counts; without that text, no value."
    )
    scale: Decimal = Field(Decimal(1), description="Factor of the value, for meters that publish another multiple.")
    sign: Literal["both", "positive", "negative"] = Field(
        "both",
        description="`positive`: negative values count as zero; `negative`: positive values count as zero, and the "
        "sign is removed. For a power that has the direction in its sign.",
    )
    resolution_mwh: int = Field(
        10_000, ge=0, le=10_000_000, description="Largest step of the register; smaller falls are no reset."
    )
    rollover_mwh: int | None = Field(
        None, gt=0, le=2**53, description="The register's reading at which it begins again at zero; without it, never."
    )
    restarts_at_zero: bool = Field(
        False, description="Whether the register begins at zero after a restart, so that its new reading counts."
    )
    time: str | None = Field(
        None,
        description="Path of the message's time: epoch seconds to nanoseconds, ISO 8601, `31.12.2026 23:59`, or a "
        "DSMR time; without it, the time of arrival.",
    )
    zone: Zone | None = Field(
        None, description="Time zone of times without their own; without it, the adapter's `zone`."
    )
    queued: bool = Field(
        False, description="Whether the source keeps messages and sends them late: then older times count too."
    )
    rebirth: bool = Field(
        False,
        description="Whether to request the births of a Sparkplug node when messages are missing, at most once a "
        "minute; until they come, aliases have no values. Without it, aliases known before stay in use. "
        "After a start of the adapter none is known until the next births.",
    )
    restart_topic: Annotated[tuple[PlainTopic, ...], _ALONE] = Field(
        (),
        description="One topic or several on which the device reports its start; `..` is the level above. After such "
        "a report an older total counts from there at once.",
    )
    restart_payload: Annotated[tuple[str, ...], _ALONE] = Field(
        ("Online",), description="The payload of that report, or several; `*` is any text."
    )
    uptime_path: str | None = Field(
        None,
        description="Path of a number in JSON on `restart_topic` that falls when the device restarts, such as its "
        "uptime or a count of its messages; empty: the payload is the number.",
    )
    restart_path: str | None = Field(
        None, description="Path of a value in the message that changes when the register is set back."
    )
    rated_w: int | None = Field(
        None,
        ge=1,
        le=100_000_000,
        description="The highest power of such a device, watts; without it, what its meter has as `rated_w`.",
    )

    @field_validator("format", mode="before")
    @classmethod
    def _is_not_gone(cls, given: object) -> object:
        if given in ("senml", "influx"):
            raise ValueError(f"{given}: is no format any more; {JSON_INSTEAD}")
        return given

    @property
    def record_type(self) -> str:
        """The name of the record type."""
        return self.type or ("stored" if self.kind == "level" else "through")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        units = {
            "register": ("mWh", "Wh", "kWh", "MWh", "J", "Wmin"),
            "interval": ("mWh", "Wh", "kWh", "MWh", "J", "Wmin"),
            "power": ("mW", "W", "kW"),
            "level": ("mWh", "Wh", "kWh", "MWh", "%"),
        }[self.kind]
        if self.unit not in units:
            raise ValueError(f"kind {self.kind} has one of the units {', '.join(units)}, not {self.unit}")
        if (self.record_type == "stored") != (self.kind == "level"):
            raise ValueError("type stored and kind level go together")
        if self.format not in ("plain", "bytes") and not self.path:
            raise ValueError(f"format {self.format} needs path")
        if self.format == "plain" and (self.path or self.less or self.time):
            raise ValueError("a plain number has no path, less or time")
        if not self.topic:
            raise ValueError("topic is empty")
        several = len(self.topic) > 1
        if several and (len(self.path) not in (0, 1, len(self.topic)) or self.less or self.float32):
            raise ValueError("several topics have one path, or one for each, and neither less nor float32")
        if self.factors and len(self.factors) != len(self.topic if several else self.path):
            raise ValueError("factors has one number for each path, or for each of several topics")
        if not all(factor.is_finite() and factor > 0 for factor in self.factors):
            raise ValueError("factors must be above zero")
        if self.float32 and self.less:
            raise ValueError("float32 has no less")
        if self.uptime_path is not None and not self.restart_topic:
            raise ValueError("uptime_path needs restart_topic")
        if self.scale <= 0 or not self.scale.is_finite():
            raise ValueError("scale must be above zero")
        return self


class AdapterDevice(Settings):
    """A foreign device, or one direction of it, and what of it counts."""

    name: str = Field("", max_length=100, description="Its name for people, as the setup pages show it.")
    preset: str = Field(description="The preset whose rules read its messages: of Commonwatt, or of this file's rules.")
    source: PlainTopic = Field(
        "",
        max_length=256,
        description="Its name in topics, such as `kitchen` of `tele/kitchen/SENSOR`; may have slashes.",
    )
    at: str = Field("", description="The `name` of the `[[source]]` on whose broker it is; without it, the first one.")
    channel: PlainTopic = Field("0", max_length=64, description="The channel of a device that has several.")
    reads: Literal["incoming", "outgoing"] | None = Field(
        None, description="Which direction of its preset's rules is read; without it, the meter's `direction`."
    )
    counts: Literal["all", "flow", "generation", "level", "register"] = Field(
        "all",
        description="What its rules count as: `flow`: no level; `generation`: the flow is what the sun makes at the "
        "place; `level`: of a battery the level alone; `register`: the register alone, of a device whose energy "
        "another meter measures too.",
    )
    rated_w: int = Field(
        48_000,
        ge=1,
        le=100_000_000,
        description="The highest power through it, watts, at most what the rule has; no increment may exceed it.",
    )
    longest_gap_s: int = Field(
        86_400,
        ge=150,
        le=2_678_400,
        description="Energy of a longer time without a sample is not spread: its slots are missing. Of powers at most "
        "300 s count.",
    )
    obeys: Annotated[tuple[CommandKind, ...], _ALONE] = Field(
        (), description="Which commands of its preset it is sent; without it, none."
    )
    watts: int | None = Field(
        None, ge=1, le=100_000_000, description="The power that it is told to give, for commands with `{watts}`."
    )
    accept_unsafe: bool = Field(
        False, description="Whether its battery shares although nothing ends that if the adapter is gone."
    )
    exchanged: AwareDatetime | None = Field(
        None,
        description="When the device was exchanged, or a wrong unit was corrected: its registers begin anew from then.",
    )


class AdapterMeter(AdapterDevice):
    """A meter of the microgrid that is made from a foreign device, or from several at one place."""

    id: int = Field(ge=1, lt=2**64, description="Our id of it; in the town file it has the same.")
    direction: Literal["incoming", "outgoing"] = Field(
        "incoming", description="The one direction that this meter of ours measures."
    )
    account: int = Field(0, ge=0, lt=2**16, description="The account of its energy; 0: none.")
    token: str | None = Field(None, repr=False, description="Its token; without it, the one in `tokens`.")
    capacity_wh: int | None = Field(
        None, gt=0, le=9_007_199_254, description="Capacity of the battery behind it; without it, no battery."
    )
    minimum_percent: int = Field(
        50, ge=0, le=100, description="The battery's sharing minimum, percent of its capacity."
    )
    also: tuple[AdapterDevice, ...] = Field(
        (),
        max_length=8,
        description="Further devices of the same place whose values are this meter's: its sun, its battery. Each has "
        "the keys of a device, `name` to `exchanged`, as they stand here.",
    )

    @property
    def devices(self) -> tuple["AdapterMeter", ...]:
        """The meter as each of its devices alone has it."""
        own = AdapterDevice.model_fields
        return (self, *(self.model_copy(update={key: getattr(device, key) for key in own}) for device in self.also))

    @model_validator(mode="before")
    @classmethod
    def _no_blind_tables(cls, table: object) -> object:
        for kind in ("share", "reduce"):
            if isinstance(table, dict) and kind in table:
                raise ValueError(
                    f"{kind}: is no table of a meter any more, as it can't show that the device obeyed; put its topic, "
                    f'on and off into a [[command]] of the meter\'s preset, and write obeys = "{kind}"'
                )
        return table

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.capacity_wh is None and any("share" in device.obeys for device in self.devices):
            raise ValueError("share needs capacity_wh, the battery that shares")
        return self


# A list of one may be a table.
_TABLE = BeforeValidator(lambda given: (given,) if isinstance(given, dict) else given)


class AdapterSource(Settings):
    """The broker on which the foreign meters publish."""

    reaches: ClassVar[tuple[Reach, ...]] = (Reach("address", "ca", "plain_text"),)

    name: str = Field("", pattern=r"^[a-z0-9-]{0,32}$", description="Its name, if there are several: a meter's `at`.")
    address: Address = Field("127.0.0.1:1883", description="Its address.")
    mqtt: Literal["3.1.1", "5"] = Field("3.1.1", description="The version of MQTT it speaks.")
    client_id: str | None = Field(
        None, min_length=1, max_length=64, description="The adapter's name there; without it, `commonwatt-MICROGRID`."
    )
    user: str | None = Field(None, description="User name there.")
    password: Path | None = Field(None, description="A file with the password there, one line.")
    ca: Path | None = Field(None, description=OTHER_CA)
    certificate: Path | None = Field(
        None,
        description="The adapter's certificate with its key there, one PEM file; a replaced file is read at the next "
        "connection.",
    )
    plain_text: bool = Field(False, description=OTHER_PLAIN_TEXT)


class AdapterSettings(Settings):
    """An adapter: makes meters of the microgrid from what foreign meters publish."""

    reaches: ClassVar[tuple[Reach, ...]] = (
        Reach("broker", "broker_ca", "broker_plain_text"),
        Reach("http", None, "http_plain_text"),
    )
    lists: ClassVar[tuple[str, ...]] = ("source", "meter", "rule", "command")

    microgrid: MicrogridName = Field(description="The microgrid of these meters.")
    source: Annotated[tuple[AdapterSource, ...], _TABLE] = Field(
        (AdapterSource(),),
        max_length=20,
        description="The brokers on which the foreign meters publish; most have one. `source = []`: none yet.",
    )
    broker: Address = Field("127.0.0.1:1883", description="The microgrid's broker.")
    broker_ca: Path | None = Field(None, description=BROKER_CA.format("the broker"))
    broker_revoked: Path | None = Field(None, description=BROKER_REVOKED.format("broker_ca"))
    broker_plain_text: bool = Field(False, description=PLAIN_TEXT)
    certificates: Path | None = Field(
        None,
        description="Folder with a certificate and key for each meter, METER.pem, for a broker that requires them; "
        "made by `commonwatt enroll device`.",
    )
    tokens: Path | None = Field(
        Path("meter-tokens.json"),
        description="The meters' tokens, made by `commonwatt utility register`; not needed if each has its `token`.",
    )
    store: Path = Field(
        Path("adapter.db"),
        description="The meters' records and the state of their registers (SQLite); made when missing.",
    )
    zone: Zone = Field("America/New_York", description="Time zone of times in messages that have none.")
    http: Address | None = Field(
        None,
        description="Where /metrics (Prometheus) is served, and /status (JSON) to this machine only; without it, "
        "nowhere.",
    )
    http_plain_text: bool = Field(False, description=HTTP_PLAIN_TEXT)
    http_hosts: tuple[HostName, ...] = Field((), description=HTTP_HOSTS)
    clock: Path | None = Field(None, description="A demonstration's clock file; without it, the machine's clock.")
    log_records: int = Field(
        2_000_000, ge=1_000, description="Most records in a meter's log; at nine tenths it consolidates them."
    )
    meter: tuple[AdapterMeter, ...] = Field((), max_length=1000, description="The foreign meters.")
    rule: tuple[AdapterRule, ...] = Field((), max_length=1000, description="Rules of your own presets.")
    command: tuple[AdapterCommand, ...] = Field((), max_length=1000, description="Commands of your own presets.")

    def source_of(self, meter: AdapterMeter) -> str:
        """Return the name of the source on whose broker a meter is."""
        return meter.at or self.source[0].name

    @model_validator(mode="before")
    @classmethod
    def _tokens_of_their_own(cls, given: Any) -> Any:
        """Need no file of tokens if each meter has its own."""
        meters = given.get("meter") if isinstance(given, dict) else None
        if isinstance(meters, list) and meters and all(isinstance(one, dict) and "token" in one for one in meters):
            return {"tokens": None} | given
        return given

    @model_validator(mode="after")
    def _ids_differ(self) -> Self:
        ids = [meter.id for meter in self.meter]
        if twice := {meter for meter in ids if ids.count(meter) > 1}:
            raise ValueError(f"meter {min(twice)} is there twice; give each [[meter]] its own id")
        names = [source.name for source in self.source]
        if self.meter and not names:
            raise ValueError("the meters need a [[source]], the broker on which they publish")
        if len(set(names)) < len(names):
            raise ValueError("give each [[source]] a name of its own")
        for device in (device for meter in self.meter for device in meter.devices):
            if device.at and device.at not in names:
                there = ", ".join(names)
                raise ValueError(f"meter {device.id}: no [[source]] is called {device.at!r}; there are: {there}")
        return self
