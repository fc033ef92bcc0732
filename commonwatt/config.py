"""Configuration: one TOML file per part, every key checked, its documentation generated from these models.

A file has one table, named after its part (``[gateway]``). Relative paths are relative to the file.
``docs/settings.md`` and ``commonwatt config example PART`` are made from the descriptions below.
"""

import json
import re
import tomllib
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeVar, get_args
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from commonwatt.exceptions import ConfigError
from commonwatt.topics import MICROGRID_PATTERN


def _check_address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:1883")
    return text


Address = Annotated[str, AfterValidator(_check_address), WithJsonSchema({"type": "string", "format": "address"})]
"""HOST:PORT."""

Seconds = Annotated[int, Field(ge=15, le=86_400)]
"""A period in seconds of the part's clock."""

DecimalId = Annotated[str, Field(pattern=r"^[0-9]{1,20}$")]
"""A meter's id as text."""

HostName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)]
"""A host name, lower case."""


def _check_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # OSError: a folder of zones, such as America
        raise ValueError("must be a time zone, such as America/New_York") from error
    return name


Zone = Annotated[str, AfterValidator(_check_zone)]
"""A time zone's name."""

MicrogridId = Annotated[str, Field(pattern=f"^{MICROGRID_PATTERN}$")]


def split_address(address: str) -> tuple[str, int]:
    """Split a checked HOST:PORT."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def is_loopback(address: str) -> bool:
    """Say whether a checked HOST:PORT is on this machine; a name other than ``localhost`` may be anywhere."""
    host, _ = split_address(address)
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def database_fault(url: str) -> str | None:
    """Say what is wrong with a database's URL, if others could read or change what goes there; never the URL itself.

    Without ``sslmode`` PostgreSQL's driver takes what it gets, plain text too, and believes every certificate.
    """
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    named = [parts.hostname or "", *query.get("host", ()), *query.get("hostaddr", ())]
    hosts = [host for text in named for host in text.split(",") if host and not host.startswith("/")]
    beyond = [host for host in hosts if not is_loopback(host if host.count(":") == 1 else f"{host}:5432")]
    if not parts.scheme.startswith("postgresql") or not beyond:
        return None
    if query.get("sslmode", [""])[-1] in ("verify-full", "disable"):
        return None
    return (
        f"database: {beyond[0]} is beyond this machine, and others could read and change what goes there: add "
        "sslmode=verify-full and sslrootcert=FILE to the URL, or for a network that nobody else can listen to "
        "sslmode=disable"
    )


class Reach(NamedTuple):
    """An address of a part, and what lets it be beyond this machine."""

    key: str
    tls_key: str | None
    plain_key: str

    def fault(self, settings: "Settings") -> str | None:
        """Say what is wrong, if it would go beyond this machine in plain text and nobody said that it may."""
        address = getattr(settings, self.key)
        protected = self.tls_key is not None and getattr(settings, self.tls_key) is not None
        if not protected and getattr(settings, f"{self.key}_revoked", None) is not None:
            return f"{self.key}_revoked needs {self.tls_key}, the authority whose list it is"
        if address is None or is_loopback(address) or protected or getattr(settings, self.plain_key):
            return None
        tls = f"set {self.tls_key} (made by `commonwatt enroll`, see docs/security.md), " if self.tls_key else ""
        return (
            f"{self.key} = {address} is beyond this machine and would be in plain text, for everybody on the way to "
            f"read and change: {tls}use a loopback address, or say {self.plain_key} = true"
        )


class Settings(BaseModel):
    """What the settings of every part have in common.

    Unknown keys are errors, nothing changes after the start, and nothing goes beyond this machine in plain text unless
    the file says so.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    reaches: ClassVar[tuple[Reach, ...]] = ()

    @model_validator(mode="after")
    def _no_plain_text_by_accident(self) -> Self:
        if faults := [fault for reach in self.reaches if (fault := reach.fault(self))]:
            raise ValueError("; ".join(faults))
        return self


_PLAIN_TEXT = "Allow MQTT without TLS beyond this machine: readings and tokens can then be read and changed on the way."
_CA = "The authority that vouches for {} (PEM); with it only TLS is spoken there. Made by `commonwatt enroll`."
_REVOKED = (
    "The list of certificates that this authority has revoked (PEM): a broker with one of them is not believed. "
    "Needs `{}`; taken over when it is replaced. Made by `commonwatt enroll`."
)
_CERTIFICATE = (
    "The {}'s certificate with its key, one PEM file, for brokers that ask for it; renewed in place. "
    "Made by `commonwatt enroll device`."
)
_HTTP_PLAIN_TEXT = (
    "Allow `http` on an address beyond this machine without TLS, for a network that nobody else can listen to."
)

_HTTP_HOSTS = (
    "Host names by which `http` is asked for, besides localhost, the one it listens on, and IP addresses; by others it "
    "does not answer, so that no web page of somebody else can read it."
)


class BrokerSettings(Settings):
    """A broker (amqtt behind a guard): one runs beside each gateway, one at the utility as its head-end."""

    reaches: ClassVar[tuple[Reach, ...]] = (
        Reach("listen", "certificate", "plain_text"),
        Reach("http", None, "http_plain_text"),
    )

    listen: Address = Field("127.0.0.1:1883", description="Where the broker listens for MQTT 3.1.1.")
    devices: Path = Field(Path("devices.json"), description="Who may connect; made by `commonwatt utility register`.")
    certificate: Path | None = Field(
        None,
        description="The broker's certificate with its key, one PEM file; with it only TLS is spoken. "
        "Made by `commonwatt enroll broker`.",
    )
    clients_ca: Path | None = Field(
        None,
        description="The authority whose certificates devices must show; without it they show their tokens. "
        "Needs `certificate` and `clients_revoked`.",
    )
    clients_revoked: Path | None = Field(
        None, description="That authority's list of revoked certificates; read again when it changed."
    )
    plain_text: bool = Field(False, description=_PLAIN_TEXT)
    packets_per_s: float = Field(
        100,
        gt=0,
        description=(
            "MQTT packets one meter may send in a real second, in the long run; who sends more is read later. A "
            "gateway may send as many again for each of its meters, the utility for each gateway."
        ),
    )
    http: Address | None = Field(
        None, description="Where /metrics (Prometheus) and /status (JSON) are served; without it, nowhere."
    )
    http_plain_text: bool = Field(False, description=_HTTP_PLAIN_TEXT)
    http_hosts: tuple[HostName, ...] = Field((), description=_HTTP_HOSTS)

    @model_validator(mode="after")
    def _certificates_complete(self) -> Self:
        wanted = (self.certificate, self.clients_ca, self.clients_revoked)
        if (self.clients_ca or self.clients_revoked) and None in wanted:
            raise ValueError(
                "clients_ca, clients_revoked and certificate go together; commonwatt enroll makes all three"
            )
        return self


class GatewaySettings(Settings):
    """A microgrid's gateway: collects from its meters, keeps sharing fair, relays to the utility."""

    reaches: ClassVar[tuple[Reach, ...]] = (
        Reach("broker", "broker_ca", "broker_plain_text"),
        Reach("head_end", "head_end_ca", "head_end_plain_text"),
        Reach("http", None, "http_plain_text"),
    )

    microgrid: MicrogridId = Field(
        description="The microgrid this gateway controls; also its identity at both brokers."
    )
    registry: Path = Field(
        Path("registry.json"), description="The microgrid's meters; made by `commonwatt utility register`."
    )
    store: Path = Field(Path("gateway.db"), description="The gateway's database (SQLite); made when missing.")
    tokens: Path = Field(
        Path("gateway-tokens.json"), description="The gateway's token; made by `commonwatt utility register`."
    )
    broker: Address = Field("127.0.0.1:1883", description="The microgrid's own broker.")
    broker_ca: Path | None = Field(None, description=_CA.format("the microgrid's own broker"))
    broker_revoked: Path | None = Field(None, description=_REVOKED.format("broker_ca"))
    broker_plain_text: bool = Field(False, description=_PLAIN_TEXT)
    head_end: Address = Field("127.0.0.1:1884", description="The utility's broker.")
    head_end_ca: Path | None = Field(None, description=_CA.format("the utility's broker"))
    head_end_revoked: Path | None = Field(None, description=_REVOKED.format("head_end_ca"))
    head_end_plain_text: bool = Field(False, description=_PLAIN_TEXT)
    certificate: Path | None = Field(None, description=_CERTIFICATE.format("gateway"))
    http: Address | None = Field(
        "127.0.0.1:9101", description="Where /metrics (Prometheus) and /status (JSON) are served."
    )
    http_plain_text: bool = Field(False, description=_HTTP_PLAIN_TEXT)
    http_hosts: tuple[HostName, ...] = Field((), description=_HTTP_HOSTS)
    clock: Path | None = Field(None, description="A demonstration's clock file; without it, the machine's clock.")
    collect_s: Seconds = Field(60, description="How often meters that wait to be asked are asked for their records.")
    levels_s: Seconds = Field(60, description="How often batteries far from their minimum are asked for their level.")
    relay_s: Seconds = Field(60, description="How often data is relayed to the utility; urgent data goes at once.")
    compact_s: Seconds = Field(900, description="How often acknowledged parts of finished quarters are joined.")
    backup_bytes: int = Field(
        50_000_000_000,
        ge=1_000_000,
        description="Above this size of the database the oldest acknowledged data is deleted; nothing else ever is.",
    )
    weights: dict[DecimalId, Annotated[int, Field(ge=1, le=1000)]] = Field(
        {},
        description="A battery's share of the discharge relative to other donors, by meter id; 1 where not named.",
    )
    sharing: Literal["spec"] = Field(
        "spec", description="How it is decided who shares; `spec` is the town's specification."
    )
    sharing_band_permille: int = Field(
        10,
        ge=0,
        le=100,
        description="Thousandths of its capacity: so far above its minimum a receiver is done, and a donor starts.",
    )
    near_minimum_permille: int = Field(
        50,
        ge=0,
        le=1000,
        description="A battery within this of its minimum, or below it, is asked for its level every 15 s.",
    )
    timezone: Zone = Field("America/New_York", description="Local time, in which days and months of LTE use begin.")
    lte_allowance_bytes: int = Field(
        2_000_000_000,
        ge=1,
        le=2**53,
        description="What the plan of the controller's LTE line allows in a calendar month, each way.",
    )
    lte_interface: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_.-]{1,15}$",
        description="The network interface of the LTE line, such as wwan0: its counters are taken, in place of what "
        "the connections cost. For a controller whose broker is Mosquitto, which does not tell that.",
    )


class MetersSettings(Settings):
    """A fleet of emulated meters: every meter of one microgrid and the physics behind them."""

    reaches: ClassVar[tuple[Reach, ...]] = (
        Reach("broker", "broker_ca", "broker_plain_text"),
        Reach("http", None, "http_plain_text"),
    )

    microgrid: MicrogridId = Field(description="The microgrid whose meters these are.")
    town: Path = Field(Path("town.toml"), description="The town file.")
    store: Path = Field(
        Path("meters.db"), description="The meters' own storage and the truth log (SQLite); made when missing."
    )
    tokens: Path = Field(
        Path("meter-tokens.json"), description="The meters' tokens; made by `commonwatt utility register`."
    )
    broker: Address = Field("127.0.0.1:1883", description="The microgrid's broker.")
    broker_ca: Path | None = Field(None, description=_CA.format("the broker"))
    broker_revoked: Path | None = Field(None, description=_REVOKED.format("broker_ca"))
    broker_plain_text: bool = Field(False, description=_PLAIN_TEXT)
    certificates: Path | None = Field(
        None,
        description="Folder with a certificate and key for each meter, METER.pem, for a broker that asks for them; "
        "made by `commonwatt enroll device`.",
    )
    http: Address | None = Field(
        None, description="Where /metrics (Prometheus) and /status (JSON) are served; without it, nowhere."
    )
    http_plain_text: bool = Field(False, description=_HTTP_PLAIN_TEXT)
    http_hosts: tuple[HostName, ...] = Field((), description=_HTTP_HOSTS)
    clock: Path | None = Field(None, description="A demonstration's clock file; without it, the machine's clock.")
    resolution_mwh: int = Field(
        100, ge=1, le=1_000_000, description="Readings are multiples of this many milliwatt-hours."
    )
    log_records: int = Field(
        2_000_000, ge=1_000, description="Records a meter can hold; at nine tenths it consolidates what it holds."
    )
    failures_per_day: float = Field(
        4.0, ge=0, le=1000, description="How often a meter fails for 10 to 15 s, on average."
    )


class UtilitySettings(Settings):
    """The utility's service: stores, completes, counts and shows what the gateways relay."""

    reaches: ClassVar[tuple[Reach, ...]] = (
        Reach("head_end", "head_end_ca", "head_end_plain_text"),
        Reach("http", "http_certificate", "http_plain_text"),
    )

    database: str = Field(
        "sqlite:///utility.db",
        description="SQLAlchemy URL of the database; a relative SQLite path is relative to this file. A PostgreSQL "
        "beyond this machine needs sslmode=verify-full, or sslmode=disable to say that plain text is meant.",
    )
    tokens: Path = Field(
        Path("utility-tokens.json"), description="The utility's token; made by `commonwatt utility register`."
    )
    head_end: Address = Field("127.0.0.1:1884", description="The utility's broker.")
    head_end_ca: Path | None = Field(None, description=_CA.format("the utility's broker"))
    head_end_revoked: Path | None = Field(None, description=_REVOKED.format("head_end_ca"))
    head_end_plain_text: bool = Field(False, description=_PLAIN_TEXT)
    certificate: Path | None = Field(None, description=_CERTIFICATE.format("utility"))
    http: Address = Field("127.0.0.1:8080", description="Where the API, its page /docs, and /metrics are served.")
    http_certificate: Path | None = Field(
        None, description="Certificate and key, one PEM file, to serve them by HTTPS; taken over at the next start."
    )
    http_plain_text: bool = Field(False, description=_HTTP_PLAIN_TEXT)
    http_hosts: tuple[HostName, ...] = Field((), description=_HTTP_HOSTS)
    clock: Path | None = Field(None, description="A demonstration's clock file; without it, the machine's clock.")
    clock_is_right: bool = Field(
        False,
        description="Whether gateways may take the time from the machine's clock, though its kernel knows of no NTP"
        " that keeps it: because something else does.",
    )
    gaps_s: Seconds = Field(300, description="How often missing slots are looked for.")
    gap_age_s: Seconds = Field(1800, description="How old a missing slot must be before its gateway is asked for it.")
    compact_s: Seconds = Field(900, description="How often the parts of finished quarters are joined.")
    keep_months: int | None = Field(
        None,
        ge=1,
        le=1200,
        description="How many whole months (UTC) of readings are kept before the present one; older ones are dropped, "
        "and not asked for again. Without it all are kept.",
    )

    @model_validator(mode="after")
    def _database_protected(self) -> Self:
        if fault := database_fault(self.database):
            raise ValueError(fault)
        return self


PARTS: dict[str, type[Settings]] = {
    "broker": BrokerSettings,
    "gateway": GatewaySettings,
    "meters": MetersSettings,
    "utility": UtilitySettings,
}
"""The parts that run from a file, by the name of the file's table."""

_S = TypeVar("_S", bound=BaseModel)
_HEADER = re.compile(r"^\s*\[{1,2}\s*([^\]]+?)\s*\]{1,2}")
_KEY = re.compile(r"^\s*([A-Za-z0-9_\"'.-]+?)\s*=")


def load_settings(path: Path, part: str, model: type[_S]) -> _S:
    """Read the settings of ``part`` from the one table of ``path``, with its paths made absolute.

    Raises:
        ConfigError: Naming the file, the line, the key and what is allowed there.
    """
    table = read_toml(path)
    if list(table) != [part]:
        raise ConfigError(
            f"{path}: must have exactly one table, [{part}], but has: "
            + (", ".join(f"[{key}]" for key in table) or "none")
            + f"; see: commonwatt config example {part}"
        )
    return _absolute(check_model(path, model, table[part], prefix=(part,)), path)


def check_file(path: Path) -> str:
    """Check a file whose only table names its part; return the part.

    Raises:
        ConfigError: As ``load_settings``.
    """
    table = read_toml(path)
    part = next(iter(table), "")
    if part not in PARTS:
        raise ConfigError(f"{path}: its table must be one of " + ", ".join(f"[{p}]" for p in PARTS))
    load_settings(path, part, PARTS[part])
    return part


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: It is missing, unreadable or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # of TOML itself, of UTF-8, of numbers too long
        raise ConfigError(f"{path}: not TOML: {error}") from error


def check_model(path: Path, model: type[_S], table: object, prefix: tuple[str, ...] = ()) -> _S:
    """Validate ``table`` (found under ``prefix`` in ``path``), turning every fault into one line for a person.

    Raises:
        ConfigError: One line per fault.
    """
    try:
        return model.model_validate(table)
    except ValidationError as error:
        lines = path.read_text(encoding="utf-8").splitlines()
        faults = []
        for fault in error.errors():
            keys = (*prefix, *fault["loc"])
            where = f"line {line}: " if (line := _line_of(lines, keys)) else ""
            faults.append(f"{path}: {where}{'.'.join(map(str, keys))}: {_allowed(model, fault)}")
        raise ConfigError("\n".join(faults)) from error


def _allowed(model: type[BaseModel], fault: Any) -> str:
    text = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "value_error" and not fault["loc"]:
        return text  # It is about several keys; what was found is the whole table.
    known = _model_at(model, fault["loc"]).model_fields
    if fault["type"] == "extra_forbidden":
        return "unknown key; known here: " + ", ".join(known)
    if fault["type"] == "missing":
        field = known.get(fault["loc"][-1])
        return "missing; " + ((field and field.description) or "")
    return f"{text} (found {fault['input']!r})"


def _model_at(model: type[BaseModel], keys: tuple[int | str, ...]) -> type[BaseModel]:
    """Return the model of the table in which the last of ``keys`` stands."""
    for key in keys[:-1]:
        if isinstance(key, str) and key in model.model_fields:
            annotation = model.model_fields[key].annotation
            kinds = (annotation, *get_args(annotation))
            model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), model)
    return model


def _line_of(lines: list[str], keys: tuple[int | str, ...]) -> int:
    """Find the line (from 1) on which ``keys`` stands, or that of the table it is missing from; else 0."""
    wanted = [str(key) for key in keys if isinstance(key, str)]
    index = next((key for key in keys if isinstance(key, int)), 0)
    table: list[str] = []
    seen: dict[str, int] = {}
    header_line = 0
    for number, text in enumerate(lines, 1):
        if header := _HEADER.match(text):
            name = header[1]
            table = name.split(".")
            if text.lstrip().startswith("[["):
                seen[name] = seen.get(name, -1) + 1
            if table == wanted[: len(table)] and seen.get(name, index) == index:
                header_line = number
        elif (
            (key := _KEY.match(text))
            and [*table, key[1]] == wanted[: len(table) + 1]
            and (seen.get(".".join(table), index) == index)
        ):
            return number
    return header_line


def _absolute(settings: _S, path: Path) -> _S:
    """Return ``settings`` with relative paths taken from the folder of the file they stand in."""
    base = path.resolve().parent
    changes: dict[str, object] = {key: base / value for key, value in settings if isinstance(value, Path)}
    if isinstance(settings, UtilitySettings):
        database = settings.database
        if database.startswith("sqlite:///") and not database.startswith("sqlite:////"):
            changes["database"] = f"sqlite:///{base / database.removeprefix('sqlite:///')}"
    return settings.model_copy(update=changes)


def example(part: str) -> str:
    """Return a commented example of the part's file, made from its model; it passes its own check."""
    model = PARTS[part]
    lines = [f"# {model.__doc__}", f"[{part}]"]
    for key, field in model.model_fields.items():
        lines.append(f"# {field.description}")
        default = field.default
        if field.is_required():
            lines.append(f'{key} = "r001"')
        elif default is None:
            lines.append(f"# {key} = ...")
        else:
            lines.append(f"{key} = {json.dumps(default, default=str)}")
    return "\n".join(lines) + "\n"
