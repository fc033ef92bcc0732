"""The settings of each part: keys, meanings and allowed values.

``docs/reference/settings.md`` and ``commonwatt config example PART`` are made from the descriptions below.
"""

from collections.abc import Iterator, Mapping
from inspect import isclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, ClassVar, Literal, NamedTuple, Self, get_args
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from commonwatt.model.control import PUT_S
from commonwatt.model.units import ControllerId
from commonwatt.network.addresses import Address, Addresses, is_loopback
from commonwatt.protocol.commands import PutPeriod
from commonwatt.protocol.topics import MICROGRID_PATTERN

Seconds = Annotated[int, Field(ge=15, le=86_400)]  # a period in seconds of the part's clock
HostName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)]  # a host name, lower case


def _check_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # OSError: a folder of zones, such as America
        raise ValueError("must be a time zone, such as America/New_York") from error
    return name


Zone = Annotated[str, AfterValidator(_check_zone)]  # a time zone's name


def _check_database(url: str) -> str:
    # Loaded for the utility's settings alone: the other parts are installed without SQLAlchemy.
    try:
        from commonwatt.config.database_url import database_fault
    except ModuleNotFoundError as error:
        raise ValueError(
            f"needs {error.name}, which is not installed; install commonwatt with its extra utility"
        ) from error
    if fault := database_fault(url):
        raise ValueError(fault)
    return url


DatabaseUrl = Annotated[str, AfterValidator(_check_database)]
"""SQLAlchemy URL of a stored database, with an encrypted connection unless plain text is asked for."""

MicrogridName = Annotated[str, Field(pattern=f"^{MICROGRID_PATTERN}$")]


class Reach(NamedTuple):
    """An address of a part, with the settings that allow it to be on another machine."""

    key: str
    tls_key: str | None
    plain_key: str

    def fault(self, settings: "Settings") -> str | None:
        """Refuse plain text beyond this machine unless the configuration allows it."""
        value = getattr(settings, self.key)
        addresses = (value,) if isinstance(value, str) else value or ()
        beyond = [address for address in addresses if not is_loopback(address)]
        protected = self.tls_key is not None and getattr(settings, self.tls_key) is not None
        if not protected and getattr(settings, f"{self.key}_revoked", None) is not None:
            return f"{self.key}_revoked needs {self.tls_key}, the authority whose list it is"
        if not beyond or protected or getattr(settings, self.plain_key):
            return None
        tls = f"set {self.tls_key} (made by `commonwatt enroll`, see docs/security.md), " if self.tls_key else ""
        return (
            f"{self.key} = {beyond[0]} is beyond this machine and would be in plain text, for everybody on the way to "
            f"read and change: {tls}use a loopback address, or say {self.plain_key} = true"
        )


class Settings(BaseModel):
    """The common base of all parts' settings.

    Unknown keys are errors, settings do not change after the start, and plain text to other machines is refused unless
    the file allows it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    reaches: ClassVar[tuple[Reach, ...]] = ()
    # Fields that are lists of tables beside the part's own table in its file, such as ``[[meter]]``.
    lists: ClassVar[tuple[str, ...]] = ()
    # Keys of earlier releases by name, with what became of each, for the error.
    gone: ClassVar[Mapping[str, str]] = {}

    @property
    def unused(self) -> frozenset[str]:
        """Keys that these settings do not use, such as files that need not exist."""
        return frozenset()

    @classmethod
    def tables(cls) -> dict[str, type["Settings"]]:
        """Return the models of the tables inside this one by key, with those that may be absent."""
        return {
            key: kind
            for key, field in cls.model_fields.items()
            for kind in (field.annotation, *get_args(field.annotation))
            if isclass(kind) and issubclass(kind, Settings) and key not in cls.lists
        }

    def inside(self) -> Iterator[tuple[tuple[int | str, ...], "Settings"]]:
        """Yield each table inside, and each of a list of tables, with its keys."""
        for key, value in self:
            if isinstance(value, Settings):
                yield (key,), value
            elif isinstance(value, tuple):
                yield from (((key, n), one) for n, one in enumerate(value) if isinstance(one, Settings))

    @model_validator(mode="after")
    def _no_plain_text_by_accident(self) -> Self:
        if faults := [fault for reach in self.reaches if (fault := reach.fault(self))]:
            raise ValueError("; ".join(faults))
        return self


OTHER_CA = "The authority that signs its certificate (PEM); with it TLS is required."
OTHER_PLAIN_TEXT = "Allow MQTT without TLS beyond this machine, on a network that you trust."
PLAIN_TEXT = "Allow MQTT without TLS beyond this machine: readings and tokens can then be read and changed on the way."
BROKER_CA = "The authority that signs {}'s certificate (PEM); with it TLS is required. Made by `commonwatt site init`."
HEAD_ENDS = (
    "The utility's broker. A list of two: two brokers without a link between them; it is connected with one, and goes "
    "to the next when it can't connect for 5 s, or hears nothing of the utility."
)
BROKER_REVOKED = (
    "This authority's revocation list (PEM): a broker with a revoked certificate is rejected. "
    "Needs `{}`; loaded again when it is replaced. Made by `commonwatt site init`."
)
CERTIFICATE = (
    "The {}'s certificate with its key, one PEM file, for brokers that ask for it; renewed in place. "
    "Made by `commonwatt site init`."
)
HTTP_PLAIN_TEXT = "Allow `http` on an address beyond this machine without TLS, for a private network."

HTTP_HOSTS = (
    "Host names of `http`, besides localhost, the host it listens on, and IP addresses; for other host names it "
    "does not answer, against DNS rebinding by other web pages."
)


class BrokerSettings(Settings):
    """A broker (amqtt behind a guard): one beside each gateway, and one at the utility as the head-end."""

    reaches: ClassVar[tuple[Reach, ...]] = (
        Reach("listen", "certificate", "plain_text"),
        Reach("http", None, "http_plain_text"),
    )

    listen: Address = Field("127.0.0.1:1883", description="Where the broker listens for MQTT 3.1.1.")
    devices: Path = Field(
        Path("devices.json"), description="The devices that may connect; made by `commonwatt utility register`."
    )
    certificate: Path | None = Field(
        None,
        description="The broker's certificate with its key, one PEM file; with it TLS is required. "
        "Made by `commonwatt site init`.",
    )
    clients_ca: Path | None = Field(
        None,
        description="The authority that signs devices' certificates; without it devices show their tokens. "
        "Needs `certificate` and `clients_revoked`.",
    )
    clients_revoked: Path | None = Field(
        None, description="That authority's revocation list; loaded again when it is replaced."
    )
    clients_ended_days: int = Field(
        0,
        ge=0,
        le=180,
        description="Days for which a device's certificate that has ended is accepted, unless it was revoked. A "
        "microgrid's broker has 180: its devices go on without the utility, which renews certificates.",
    )
    plain_text: bool = Field(False, description=PLAIN_TEXT)
    packets_per_s: float = Field(
        100,
        gt=0,
        description=(
            "MQTT packets that one meter may send in a real second, on average; more packets are read later. A "
            "gateway may send this many for each of its meters, the utility for each gateway."
        ),
    )
    http: Address | None = Field(
        None, description="Where /metrics (Prometheus) and /status (JSON) are served; without it, nowhere."
    )
    http_plain_text: bool = Field(False, description=HTTP_PLAIN_TEXT)
    http_hosts: tuple[HostName, ...] = Field((), description=HTTP_HOSTS)

    @model_validator(mode="after")
    def _certificates_complete(self) -> Self:
        wanted = (self.certificate, self.clients_ca, self.clients_revoked)
        if (self.clients_ca or self.clients_revoked) and None in wanted:
            raise ValueError(
                "clients_ca, clients_revoked and certificate go together; commonwatt enroll makes all three"
            )
        return self


class HouseholdSettings(Settings):
    """A place whose energy state is published to a household's broker for Home Assistant (docs/adapters.md)."""

    gone: ClassVar[Mapping[str, str]] = {
        "prefix": "is fixed: `homeassistant`, which Home Assistant has by default; remove the key"
    }
    reaches: ClassVar[tuple[Reach, ...]] = (Reach("address", "ca", "plain_text"),)

    place: str = Field(
        min_length=1, examples=["house 1"], description="The place: `location` of its meters in the registry."
    )
    address: Address = Field(examples=["127.0.0.1:1885"], description="The household's broker.")
    tariff: str | None = Field(None, description="The tariff of the place's account, if its microgrid has several.")
    user: str | None = Field(None, description="User name there.")
    password: str | None = Field(None, repr=False, description="Password there.")
    ca: Path | None = Field(None, description=OTHER_CA)
    plain_text: bool = Field(False, description=OTHER_PLAIN_TEXT)

    @model_validator(mode="after")
    def _password_has_a_user(self) -> Self:
        if self.password is not None and self.user is None:
            raise ValueError("password needs user")
        return self


GONE_WEIGHT = {"public_weight": "is fixed: a public microgrid's backlog has weight 2, any other 1; remove the key"}


class GatewaySettings(Settings):
    """A microgrid's gateway: collects from its meters, keeps sharing fair, relays to the utility."""

    gone: ClassVar[Mapping[str, str]] = GONE_WEIGHT | {
        "near_minimum_permille": "is fixed: 50 thousandths above its minimum; remove the key",
        "sharing_band_permille": "is fixed: 20 thousandths of the capacity; remove the key",
        "stable_voltage_s": "is fixed: 300 s; remove the key",
        "weights": "is gone: sharing weights are terms of accounts in the registry, and residents choose them "
        "(docs/settlement.md)",
    }
    reaches: ClassVar[tuple[Reach, ...]] = (
        Reach("broker", "broker_ca", "broker_plain_text"),
        Reach("head_end", "head_end_ca", "head_end_plain_text"),
        Reach("http", "http_certificate", "http_plain_text"),
        Reach("adapter", None, "http_plain_text"),
    )

    microgrid: MicrogridName = Field(
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
    broker_ca: Path | None = Field(None, description=BROKER_CA.format("the microgrid's own broker"))
    broker_revoked: Path | None = Field(None, description=BROKER_REVOKED.format("broker_ca"))
    broker_plain_text: bool = Field(False, description=PLAIN_TEXT)
    head_end: Addresses = Field(("127.0.0.1:1884",), description=HEAD_ENDS)
    head_end_ca: Path | None = Field(None, description=BROKER_CA.format("the utility's broker"))
    head_end_revoked: Path | None = Field(None, description=BROKER_REVOKED.format("head_end_ca"))
    head_end_plain_text: bool = Field(False, description=PLAIN_TEXT)
    certificate: Path | None = Field(None, description=CERTIFICATE.format("gateway"))
    care: Addresses | None = Field(
        None,
        description="Where the utility cares for controllers, by HTTPS: certificates are renewed and releases fetched "
        "there. Needs `head_end_ca`. Absent: by bundles.",
    )
    http: Address | None = Field(
        "127.0.0.1:9101",
        description="Where the controller's page, /status (JSON) and /metrics (Prometheus) are served. Beyond this "
        "machine the page and /status need `http_password`.",
    )
    http_password: Path | None = Field(
        None,
        description="File with the password of the page and /status; made by `commonwatt gateway password`, loaded "
        "again when it is replaced. Without it they are served on this machine only.",
    )
    http_certificate: Path | None = Field(
        None,
        description="Certificate and key, one PEM file, to serve by HTTPS, such as the broker's; loaded again when it "
        "is replaced.",
    )
    http_plain_text: bool = Field(False, description=HTTP_PLAIN_TEXT)
    http_hosts: tuple[HostName, ...] = Field((), description=HTTP_HOSTS)
    adapter: Address | None = Field(
        None,
        description="The `http` of the adapter of its foreign meters, on this machine: the gateway asks there what "
        "devices were discovered. Without it, nothing.",
    )
    clique: Path | None = Field(
        None,
        description="The controllers that take over for each other, with their keys; the office makes it. Without it "
        "the gateway manages its own microgrid alone. Needs `beats`.",
    )
    beats: Address | None = Field(
        None, description="Where beats and messages of the clique and the utility are received, by UDP."
    )
    collects: tuple[MicrogridName, ...] = Field(
        (),
        max_length=100,
        description="Other microgrids whose meters may send their records here, so that no line carries too much; "
        "they are not managed here. The office makes `registry-MICROGRID.json` of each, beside `registry`.",
    )
    clock: Path | None = Field(None, description="A demonstration's clock file; without it, the machine's clock.")
    collect_s: Seconds = Field(60, description="How often meters without push are asked for their records.")
    levels_s: Seconds = Field(60, description="How often batteries far from their minimum are asked for their level.")
    relay_s: Seconds = Field(60, description="How often data is relayed to the utility; urgent data at once.")
    put_s: PutPeriod = Field(
        PUT_S,
        description="How often meters that send by themselves send their readings; those that have no period, and "
        "all events, once a minute.",
    )
    compact_s: Seconds = Field(900, description="How often acknowledged parts of finished quarters are joined.")
    commit_s: float = Field(
        10,
        ge=0,
        le=10,
        description="How long meters' records may wait for others, to be stored and then acknowledged together: fewer "
        "writes to the card. Meters keep them meanwhile. A meter's other messages wait a fifth of a second.",
    )
    backup_bytes: int = Field(
        50_000_000_000,
        ge=1_000_000,
        description="Above this database size the oldest acknowledged data is deleted; other data is never deleted.",
    )
    sharing: Literal["spec", "aces", "rangers"] = Field(
        "spec",
        description="The strategy of sharing: `spec`, all above their minimum share when one is below; `aces`, when "
        "one is empty; `rangers`, batteries that already share give first, then the largest surplus.",
    )
    meters: Literal["none", "lossless"] = Field(
        "none",
        description="How all meters aggregate their records from their start on, unless a `schedule` of the utility "
        "says otherwise: `lossless` merges readings that stay the same.",
    )
    timezone: Zone = Field("America/New_York", description="Local time zone for the days and months of LTE use.")
    lte_allowance_bytes: int = Field(
        2_000_000_000,
        ge=1,
        le=2**53,
        description="Allowance of the controller's LTE plan in a calendar month, each way.",
    )
    lte_interface: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_.-]{1,15}$",
        description="The network interface of the LTE line, such as wwan0: its counters replace the byte counts of "
        "the connections. For a controller with Mosquitto as broker, which does not report byte counts.",
    )
    saves: Literal["nothing", "lossless", "averages"] = Field(
        "lossless",
        description="What the gateway does by itself when the LTE line's allowance is at risk, or it or the utility "
        "is overloaded: nothing, what loses nothing, or at last also relay averages.",
    )
    household: HouseholdSettings | None = Field(
        None, description="A place to publish for Home Assistant; without this table, none."
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.clique is None) != (self.beats is None):
            raise ValueError("clique and beats need each other: give both, or none")
        if self.care is not None and self.head_end_ca is None:
            raise ValueError("care needs head_end_ca")
        return self

    @property
    def controller(self) -> ControllerId:
        """The name of the controller: the one of its own microgrid."""
        return self.microgrid

    @property
    def broker_certificate(self) -> Path | None:
        """The certificate of its own broker beside the gateway's; ``None``: it is elsewhere."""
        path = None if self.certificate is None else self.certificate.with_name("broker.pem")
        return path if path is not None and path.exists() else None

    @property
    def serves_page(self) -> bool:
        """Whether the page and /status are served: on this machine, or with a password."""
        return self.http is not None and (is_loopback(self.http) or self.http_password is not None)


# Loaded when it is needed: the models of the other parts would take megabytes in each part.
_MODELS = {
    "adapter": "commonwatt.config.adapter:AdapterSettings",
    "broker": "commonwatt.config.settings:BrokerSettings",
    "gateway": "commonwatt.config.settings:GatewaySettings",
    "host": "commonwatt.config.settings:HostSettings",
    "meters": "commonwatt.config.meters:MetersSettings",
    "utility": "utility.settings:UtilitySettings",
}
PARTS = tuple(_MODELS)  # the parts; each is the name of its table


def settings_of(part: str) -> type[Settings]:
    """Return the model of a part's settings."""
    model: type[Settings] = resolve_name(_MODELS[part])
    return model


def command_of(part: str) -> str:
    """Return the command that runs a part, without its options."""
    return "commonwatt gateway host" if part == "host" else f"commonwatt {part} run"


MOST_CONTROLLERS = 200  # most controllers of a host


class HostSettings(Settings):
    """A host: the gateways of several controllers in one process, each with its own file, stores and connections."""

    gone: ClassVar[Mapping[str, str]] = {"files": "is fixed: `../CONTROLLER/gateway.toml`; remove the key"}
    reaches: ClassVar[tuple[Reach, ...]] = (Reach("http", None, "http_plain_text"),)

    controllers: tuple[MicrogridName, ...] = Field(
        examples=[["r001", "r002"]],
        description="The controllers whose gateways run here, by name; each has its file `../CONTROLLER/gateway.toml`, "
        "the same that `commonwatt gateway run` takes.",
    )
    http: Address | None = Field(
        None,
        description="Where /metrics (Prometheus) and, on this machine, /status and /status/CONTROLLER (JSON) are "
        "served for all; a controller's page is served where its own file has `http`.",
    )
    http_plain_text: bool = Field(False, description=HTTP_PLAIN_TEXT)
    http_hosts: tuple[HostName, ...] = Field((), description=HTTP_HOSTS)
    clock: Path | None = Field(None, description="A demonstration's clock file; without it, the machine's clock.")

    @model_validator(mode="after")
    def _some_and_each_once(self) -> Self:
        if not 1 <= len(self.controllers) <= MOST_CONTROLLERS:
            raise ValueError(f"controllers must name 1 to {MOST_CONTROLLERS}")
        if len(set(self.controllers)) != len(self.controllers):
            raise ValueError("controllers names one twice")
        return self
