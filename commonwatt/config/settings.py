"""The settings of each part: keys, meanings and allowed values.

``docs/settings.md`` and ``commonwatt config example PART`` are made from the descriptions below.
"""

from inspect import isclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple, Self, get_args
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from commonwatt.model.ids import ID_PATTERN
from commonwatt.network.addresses import Address, is_loopback
from commonwatt.protocol.topics import MICROGRID_PATTERN
from commonwatt.settlement.validation.day import Limits

Seconds = Annotated[int, Field(ge=15, le=86_400)]
"""A period in seconds of the part's clock."""

DecimalId = Annotated[str, Field(pattern=f"^{ID_PATTERN}$")]
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
    """The common base of all parts' settings.

    Unknown keys are errors, settings do not change after the start, and plain text to other machines is refused unless
    the file allows it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    reaches: ClassVar[tuple[Reach, ...]] = ()
    lists: ClassVar[tuple[str, ...]] = ()
    """Fields that are lists of tables beside the part's own table in its file, such as ``[[meter]]``."""

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

    @model_validator(mode="after")
    def _no_plain_text_by_accident(self) -> Self:
        if faults := [fault for reach in self.reaches if (fault := reach.fault(self))]:
            raise ValueError("; ".join(faults))
        return self


OTHER_CA = "The authority that signs its certificate (PEM); with it TLS is required."
OTHER_PLAIN_TEXT = "Allow MQTT without TLS beyond this machine, on a network that you trust."
PLAIN_TEXT = "Allow MQTT without TLS beyond this machine: readings and tokens can then be read and changed on the way."
BROKER_CA = "The authority that signs {}'s certificate (PEM); with it TLS is required. Made by `commonwatt enroll`."
BROKER_REVOKED = (
    "This authority's revocation list (PEM): a broker with a revoked certificate is rejected. "
    "Needs `{}`; loaded again when it is replaced. Made by `commonwatt enroll`."
)
_CERTIFICATE = (
    "The {}'s certificate with its key, one PEM file, for brokers that ask for it; renewed in place. "
    "Made by `commonwatt enroll device`."
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
        "Made by `commonwatt enroll broker`.",
    )
    clients_ca: Path | None = Field(
        None,
        description="The authority that signs devices' certificates; without it devices show their tokens. "
        "Needs `certificate` and `clients_revoked`.",
    )
    clients_revoked: Path | None = Field(
        None, description="That authority's revocation list; loaded again when it is replaced."
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

    reaches: ClassVar[tuple[Reach, ...]] = (Reach("address", "ca", "plain_text"),)

    place: str = Field(
        min_length=1, examples=["house 1"], description="The place: `location` of its meters in the registry."
    )
    address: Address = Field(examples=["127.0.0.1:1885"], description="The household's broker.")
    user: str | None = Field(None, description="User name there.")
    password: str | None = Field(None, repr=False, description="Password there.")
    ca: Path | None = Field(None, description=OTHER_CA)
    plain_text: bool = Field(False, description=OTHER_PLAIN_TEXT)
    prefix: str = Field(
        "homeassistant",
        pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$",
        max_length=64,
        description="The discovery prefix of its Home Assistant.",
    )

    @model_validator(mode="after")
    def _password_has_a_user(self) -> Self:
        if self.password is not None and self.user is None:
            raise ValueError("password needs user")
        return self


class GatewaySettings(Settings):
    """A microgrid's gateway: collects from its meters, keeps sharing fair, relays to the utility."""

    reaches: ClassVar[tuple[Reach, ...]] = (
        Reach("broker", "broker_ca", "broker_plain_text"),
        Reach("head_end", "head_end_ca", "head_end_plain_text"),
        Reach("http", "http_certificate", "http_plain_text"),
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
    head_end: Address = Field("127.0.0.1:1884", description="The utility's broker.")
    head_end_ca: Path | None = Field(None, description=BROKER_CA.format("the utility's broker"))
    head_end_revoked: Path | None = Field(None, description=BROKER_REVOKED.format("head_end_ca"))
    head_end_plain_text: bool = Field(False, description=PLAIN_TEXT)
    certificate: Path | None = Field(None, description=_CERTIFICATE.format("gateway"))
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
    clock: Path | None = Field(None, description="A demonstration's clock file; without it, the machine's clock.")
    collect_s: Seconds = Field(60, description="How often meters without push are asked for their records.")
    levels_s: Seconds = Field(60, description="How often batteries far from their minimum are asked for their level.")
    relay_s: Seconds = Field(60, description="How often data is relayed to the utility; urgent data at once.")
    compact_s: Seconds = Field(900, description="How often acknowledged parts of finished quarters are joined.")
    commit_s: float = Field(
        10,
        ge=0,
        le=10,
        description="How long meters' records may wait for others, to be stored and then acknowledged together: fewer "
        "writes to the card. Meters keep them meanwhile. All other messages are handled at once.",
    )
    backup_bytes: int = Field(
        50_000_000_000,
        ge=1_000_000,
        description="Above this database size the oldest acknowledged data is deleted; other data is never deleted.",
    )
    weights: dict[DecimalId, Annotated[int, Field(ge=1, le=1000)]] = Field(
        {},
        description="A battery's share of the discharge relative to other donors, by meter id; 1 if absent. `rangers` "
        "does not use it.",
    )
    sharing: Literal["spec", "aces", "rangers"] = Field(
        "spec",
        description="The strategy of sharing: `spec`, all above their minimum share when one is below; `aces`, when "
        "one is empty; `rangers`, the largest surplus gives first.",
    )
    sharing_band_permille: int = Field(
        20,
        ge=0,
        le=100,
        description="Thousandths of capacity that delay the start of help: a receiver is as far below its minimum, and "
        "a donor as far above. Help ends at the minimum.",
    )
    meters: Literal["none", "lossless"] = Field(
        "none",
        description="How all meters aggregate their records from their start on, unless a `schedule` of the utility "
        "says otherwise: `lossless` merges readings that stay the same.",
    )
    near_minimum_permille: int = Field(
        50,
        ge=0,
        le=1000,
        description="A battery below its minimum plus this distance is asked for its level every 15 s.",
    )
    stable_voltage_s: int = Field(
        300,
        ge=15,
        le=3600,
        description="Seconds of stable voltage at the boundary before an island may be connected to the town again.",
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
    household: HouseholdSettings | None = Field(
        None, description="A place to publish for Home Assistant; without this table, none."
    )

    @property
    def serves_page(self) -> bool:
        """Whether the page and /status are served: on this machine, or with a password."""
        return self.http is not None and (is_loopback(self.http) or self.http_password is not None)


class ResearchSettings(Settings):
    """Releases for researchers (docs/research.md)."""

    secret: Path = Field(
        Path("research-secret"),
        description="The secret of pseudonyms and groups; made at the first release. Keep a copy: with another one, "
        "groups change, and releases can't be repeated.",
    )
    limit_percent: float = Field(
        5.0,
        ge=0,
        le=100,
        description="How much more often than guessing an attack on an open release may succeed, percentage points, "
        "before a second person has to approve it.",
    )


class SupplySettings(Settings):
    """The town's supply: what the plant buys, and who is limited when power is short (docs/supply.md)."""

    buying: Literal["spec", "aces", "rangers", "planner"] = Field(
        "spec",
        description="The policy of buying: `spec`, a target with room for residents' exports; `aces`, full when peak "
        "hours start; `rangers`, up to 75 %, in peak hours down to 25 %; `planner`, the cheapest plan for two days.",
    )
    rationing: Literal["aces", "rangers"] = Field(
        "rangers",
        description="The rule of rationing: `rangers`, strictly by class with what the plant can deliver; `aces`, by "
        "the state of the regional supply alone. Emergency services are never limited.",
    )
    reserve_permille: int = Field(
        200,
        ge=0,
        le=1000,
        description="Level of the plant's battery, thousandths of its capacity, that is kept for outages and the "
        "public microgrid; what lies above it is traded.",
    )


PersonName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9._-]{0,31}$")]
"""A person's name as commands take it, lower case."""


def _check_distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"has {', '.join(twice)} twice; each person stands there once")
    return names


class BillingSettings(Settings):
    """Rates, bills and corrections: the people who may propose and approve them (docs/billing.md)."""

    people: Annotated[tuple[PersonName, ...], AfterValidator(_check_distinct)] = Field(
        (),
        examples=[["anna", "ben"]],
        description="The people who propose, check, approve and issue: `--as PERSON` of commands is one of them. What "
        "one person proposed, another one approves.",
    )
    tariff: str = Field(
        "town",
        pattern=r"^[a-z][a-z0-9_-]{0,31}$",
        description="The name of the tariff of accounts that have none of their own.",
    )


class SettlementSettings(Settings):
    """What each member exchanged with the town and with its microgrid (docs/settlement.md)."""

    convention: Literal["pro_rata", "sharing_first"] = Field(
        "pro_rata",
        description="How what a microgrid shares is divided: `pro_rata`, by what each member sent and took; "
        "`sharing_first`, what batteries gave by sharing goes to those that received it, the rest pro rata. A day "
        "keeps the convention by which it was first settled.",
    )
    resolution_mwh: int = Field(
        100,
        ge=1,
        le=1_000_000,
        description="The meters' resolution, milliwatt-hours: it bounds the residual of members against the boundary.",
    )
    loop_loss_permille: int = Field(
        0,
        ge=0,
        le=100,
        description="The stated loss of a microgrid's loop, thousandths of what its members take; within it the "
        "residual is no alarm.",
    )
    deadline_working_days: int = Field(
        5,
        ge=1,
        le=20,
        description="Working day of the next month, Monday to Friday in local time, at whose end a month's days are "
        "final although readings are missing.",
    )


_Percent = Annotated[int, Field(ge=1, le=100_000)]


class ValidationSettings(Settings):
    """The daily checks of readings and the estimates for missing ones (docs/corrections.md)."""

    reference_days: int = Field(
        14, ge=1, le=90, description="Days without an outage or a gap whose mean is an ordinary day."
    )
    least_days: int = Field(7, ge=1, le=90, description="With fewer of them, high, low and zero judge nothing.")
    high_percent: _Percent = Field(400, description="`high`: more energy than this, percent of an ordinary day.")
    low_percent: int = Field(25, ge=0, le=100, description="`low`: less energy than this, percent of an ordinary day.")
    spike_percent: _Percent = Field(
        500, description="`spike`: a day's highest quarter-hour, percent of its third-highest."
    )
    spike_wh: int = Field(250, ge=0, le=10**9, description="`spike`: a quarter-hour below these watt-hours is none.")
    stuck_quarters: int = Field(
        4, ge=1, le=96, description="`stuck`: quarter-hours in a row with the same reading, not zero, in every slot."
    )
    zero_days: int = Field(1, ge=1, le=30, description="`zero`: days in a row without energy.")
    register_permille: int = Field(
        10, ge=0, le=1000, description="`register`: difference of the readings' sum, thousandths of the register's."
    )
    register_wh: int = Field(
        100, ge=0, le=10**9, description="`register`: a difference below these watt-hours is none."
    )
    gap_slots: int = Field(1, ge=1, le=5760, description="`gap`: missing slots of 15 s in quarter-hours in a row.")
    like_days: int = Field(10, ge=1, le=20, description="Days whose mean is the estimate by like days.")
    final_days: int = Field(
        10, ge=1, le=180, description="Days after which a slot is estimated that no gateway answered for."
    )

    @model_validator(mode="after")
    def _enough_days(self) -> Self:
        if self.least_days > self.reference_days:
            raise ValueError("least_days is at most reference_days")
        return self

    @property
    def limits(self) -> Limits:
        """The thresholds, energies in milliwatt-hours."""
        same = ("reference_days", "least_days", "high_percent", "low_percent", "spike_percent", "stuck_quarters",
                "zero_days", "register_permille", "gap_slots")  # fmt: skip
        return Limits(
            spike_least=self.spike_wh * 1000,
            register_least=self.register_wh * 1000,
            **{name: getattr(self, name) for name in same},
        )


class UtilitySettings(Settings):
    """The utility's service: stores relayed data, requests missing slots and serves the API."""

    reaches: ClassVar[tuple[Reach, ...]] = (
        Reach("head_end", "head_end_ca", "head_end_plain_text"),
        Reach("http", "http_certificate", "http_plain_text"),
    )

    database: DatabaseUrl = Field(
        "sqlite:///utility.db",
        repr=False,
        validate_default=True,
        description="SQLAlchemy URL of the database; a relative SQLite path is relative to this file. A PostgreSQL "
        "on another machine needs sslmode=verify-full, or sslmode=disable to allow plain text.",
    )
    tokens: Path = Field(
        Path("utility-tokens.json"), description="The utility's token; made by `commonwatt utility register`."
    )
    head_end: Address = Field("127.0.0.1:1884", description="The utility's broker.")
    head_end_ca: Path | None = Field(None, description=BROKER_CA.format("the utility's broker"))
    head_end_revoked: Path | None = Field(None, description=BROKER_REVOKED.format("head_end_ca"))
    head_end_plain_text: bool = Field(False, description=PLAIN_TEXT)
    certificate: Path | None = Field(None, description=_CERTIFICATE.format("utility"))
    http: Address = Field("127.0.0.1:8080", description="Where the API, its page /docs, and /metrics are served.")
    http_certificate: Path | None = Field(
        None, description="Certificate and key, one PEM file, to serve by HTTPS; loaded at the next start."
    )
    http_plain_text: bool = Field(False, description=HTTP_PLAIN_TEXT)
    http_hosts: tuple[HostName, ...] = Field((), description=HTTP_HOSTS)
    clock: Path | None = Field(None, description="A demonstration's clock file; without it, the machine's clock.")
    clock_is_right: bool = Field(
        False,
        description="Whether gateways may use this machine's time although its kernel reports no NTP"
        " synchronisation, because another program synchronises it.",
    )
    gaps_s: Seconds = Field(300, description="How often the utility searches for missing slots.")
    gap_age_s: Seconds = Field(1800, description="How old a missing slot must be before its gateway is asked for it.")
    compact_s: Seconds = Field(900, description="How often the parts of finished quarters are joined.")
    keep_months: int | None = Field(
        None,
        ge=1,
        le=1200,
        description="Whole months (UTC) of readings to keep before the present month; older readings are deleted "
        "and not requested again. Without it all readings are kept.",
    )
    settlement: SettlementSettings = Field(
        SettlementSettings(), description="How what flowed is divided among the members of each microgrid, and when."
    )
    supply: SupplySettings = Field(
        SupplySettings(), description="What the town's plant buys, and who is limited when power is short."
    )
    billing: BillingSettings = Field(
        BillingSettings(), description="The people who propose and approve rates, bills and corrections."
    )
    validation: ValidationSettings = Field(
        ValidationSettings(), description="Thresholds of the daily checks of readings, and how gaps are estimated."
    )
    research: ResearchSettings = Field(ResearchSettings(), description="Releases for researchers.")
