"""The settings of the utility: its service, and its office (docs/office.md)."""

from collections.abc import Mapping
from decimal import Decimal
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from commonwatt.config.settings import (
    BROKER_CA,
    BROKER_REVOKED,
    CERTIFICATE,
    GONE_WEIGHT,
    HTTP_HOSTS,
    HTTP_PLAIN_TEXT,
    PLAIN_TEXT,
    DatabaseUrl,
    HostName,
    Reach,
    Seconds,
    Settings,
)
from commonwatt.network.addresses import Address, Addresses

Iban = Annotated[str, AfterValidator(lambda text: text.replace(" ", ""))]  # written with spaces or without


class LedgerCodes(Settings):
    """The codes of the office's chart of accounts, for `commonwatt export ledger`."""

    receivables: str = Field("1200", max_length=20, description="What accounts owe.")
    bank: str = Field("1000", max_length=20, description="Money received and paid.")
    energy: str = Field("4000", max_length=20, description="Base and energy billed, less credit.")
    fees: str = Field("4100", max_length=20, description="Fees of reminders and fees that people entered.")
    taxes: str = Field("2200", max_length=20, description="Taxes and levies billed.")
    goodwill: str = Field("5000", max_length=20, description="Goodwill and credit notes.")
    suspense: str = Field("2900", max_length=20, description="Payments that belong to no account yet.")


class MailSettings(Settings):
    """How bills and reminders are mailed."""

    host: HostName | None = Field(None, description="The SMTP server; absent: nothing is mailed.")
    port: int = Field(587, ge=1, le=65535, description="Its port; 465: TLS from the start, else STARTTLS.")
    user: str = Field("", max_length=200, description="The name at its login; empty: there is no login.")
    password: Path | None = Field(None, description="The file with its password.")
    sender: str = Field("", max_length=200, description="The address that mail comes from, and bounces go to.")
    plain_text: bool = Field(False, description=PLAIN_TEXT)


class OfficeSettings(Settings):
    """The office: who sends bills, and where money goes (docs/office.md)."""

    key: Path = Field(
        Path("office-key"),
        description="The key that names and addresses are encrypted with; made at the first use. Keep a copy apart "
        "from the database's: without it they are lost.",
    )
    name: str = Field("", max_length=70, description="Who sends the bills.")
    address: tuple[str, ...] = Field((), max_length=4, description="The lines of its address.")
    logo: Path | None = Field(None, description="A picture for bills, PNG.")
    iban: Iban = Field("", max_length=42, description="The account for payments.")
    bic: str = Field("", max_length=11, description="Its bank.")
    creditor: str = Field("", max_length=35, description="The creditor identifier for direct debits.")
    pay_code: Literal["none", "epc", "swiss"] = Field(
        "none", description="The code on bills that banks' programs read: `epc` (euro), `swiss` (QR-bill)."
    )
    codes: LedgerCodes = Field(LedgerCodes(), description="Codes of the chart of accounts.")
    mail: MailSettings = Field(MailSettings(), description="How bills are mailed.")


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise ValueError(f"{text}: neither an IP address nor a network such as 10.1.0.0/24") from error


ProxyNetwork = Annotated[str, AfterValidator(_network)]  # an IP address or a network of them
PGBACKREST = "a PostgreSQL database is backed up by pgBackRest, see docs/stores.md"  # for errors


class ResearchSettings(Settings):
    """Releases for researchers (docs/research.md)."""

    secret: Path = Field(
        Path("research-secret"),
        description="The secret of pseudonyms and groups; made at the first release. Keep a copy: with another one, "
        "groups change, and releases can't be repeated.",
    )
    releases: Path = Field(
        Path("releases"),
        description="The folder of releases that researchers download; `research release` without --out writes to it.",
    )
    limit_percent: float = Field(
        5.0,
        ge=0,
        le=100,
        description="How much more often than guessing an attack on an open release may succeed, percentage points, "
        "before a second person has to approve it.",
    )


class ExportSettings(Settings):
    """Files that the service exports by itself each month (docs/operations.md)."""

    folder: Path | None = Field(
        None, description="The folder of the monthly exports; without it the service exports nothing by itself."
    )
    what: tuple[Literal["settled", "usage", "readings", "events"], ...] = Field(
        ("settled",),
        min_length=1,
        description="What is exported: `settled` quarter-hours; `usage` of the month, quarter, year and five years, as "
        "CSV; sums of `readings` by quarter-hour; `events`.",
    )
    format: Literal["parquet", "csv"] = Field(
        "parquet", description="The files' format; Parquet needs the extra `export`."
    )


class BackupSettings(Settings):
    """The database's backups (docs/operations.md)."""

    folder: Path | None = Field(
        None,
        description="The folder of the nightly backups of an SQLite database, on another disk; without it the service "
        "makes none.",
    )
    keep: int = Field(7, ge=1, le=1000, description="How many backups are kept; older ones are deleted.")
    stanza: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$",
        description="The PostgreSQL server's name in pgBackRest's settings (docs/stores.md): its backups have "
        "metrics and alerts.",
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


class NotifySettings(Settings):
    """Whom alarms call (docs/operations.md)."""

    to: tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*://")], ...] = Field(
        (),
        repr=False,
        max_length=20,
        description="Addresses of [Apprise](https://appriseit.com/services/), such as "
        "`mailtos://user:password@mail.example` or `ntfys://ntfy.sh/topic`; secrets: one user can read the file.",
    )
    name: str = Field("Commonwatt", max_length=60, description="What messages begin with: the town's name.")
    console: str = Field(
        "http://127.0.0.1:8080",
        pattern=r"^https?://[^/]+$",
        description="The console's address for people, with which links in messages begin.",
    )
    dead_man: str | None = Field(
        None,
        repr=False,
        pattern=r"^https?://",
        description="An address that is called each minute, such as one of healthchecks.io: what answers there gives "
        "the alarm when no call comes any more. It should be on another machine, in another network.",
    )


class BillingSettings(Settings):
    """Rates and bills (docs/billing.md)."""

    tariff: str = Field(
        "town",
        pattern=r"^[a-z][a-z0-9_-]{0,31}$",
        description="The name of the tariff of accounts that have none of their own.",
    )
    regional_price: Annotated[Decimal, Field(ge=0, le=100)] | None = Field(
        None,
        description="What the regional grid charges outside peak hours, dollars per kWh, to project the cost of the "
        "next month; without it there is none.",
    )
    payment_days: int = Field(30, ge=1, le=365, description="Days from the issue of a bill to its due date.")

    @model_validator(mode="before")
    @classmethod
    def _no_people(cls, table: object) -> object:
        if isinstance(table, dict) and "people" in table:
            raise ValueError(
                "people: is no setting any more: remove the key, invite these people in the console with the roles "
                "clerk and approver, and let them log in for commands: commonwatt login"
            )
        return table


class SettlementSettings(Settings):
    """What each member exchanged with the town and with its microgrid (docs/settlement.md)."""

    gone: ClassVar[Mapping[str, str]] = {
        "deadline_working_days": "is fixed: a month is final after five working days of the next; remove the key"
    }

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


class UtilitySettings(Settings):
    """The utility's service: stores relayed data, requests missing slots and serves the API."""

    gone: ClassVar[Mapping[str, str]] = (
        GONE_WEIGHT
        | dict.fromkeys(
            ("alertmanager_ca", "alertmanager_plain_text"),
            "is gone: the utility asks Alertmanager nothing; `alertmanager` is the address of its page",
        )
        | {"validation": "is fixed, see the checks and estimates in docs/billing.md; remove the table"}
    )
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
    name_in_cluster: str | None = Field(
        None,
        pattern=r"^(%H|[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?)$",
        description="The name of this utility among those that share the PostgreSQL database, each with its own "
        "(docs/cluster.md); `%H`: the machine's host name. One of them is active, the others stand by. With it, `run` "
        "does not migrate the database.",
    )
    tokens: Path = Field(
        Path("utility-tokens.json"), description="The utility's token; made by `commonwatt utility register`."
    )
    head_end: Addresses = Field(
        ("127.0.0.1:1884",),
        description="The utility's broker. A list of two: two brokers without a link between them, to both of which it "
        "is connected.",
    )
    head_end_ca: Path | None = Field(None, description=BROKER_CA.format("the utility's broker"))
    head_end_revoked: Path | None = Field(None, description=BROKER_REVOKED.format("head_end_ca"))
    head_end_plain_text: bool = Field(False, description=PLAIN_TEXT)
    certificate: Path | None = Field(None, description=CERTIFICATE.format("utility"))
    http: Address = Field("127.0.0.1:8080", description="Where the API, its page /docs, and /metrics are served.")
    http_certificate: Path | None = Field(
        None, description="Certificate and key, one PEM file, to serve by HTTPS; loaded at the next start."
    )
    http_plain_text: bool = Field(False, description=HTTP_PLAIN_TEXT)
    http_hosts: tuple[HostName, ...] = Field((), description=HTTP_HOSTS)
    care: Address | None = Field(
        None,
        description="Where controllers join, renew their certificates and fetch releases, by HTTPS; absent: they are "
        "cared for by bundles. Needs `care_certificate` and `head_end_ca`.",
    )
    care_certificate: Path | None = Field(
        None,
        description="Certificate and key of `care`, one PEM file, signed by the town's authority, such as the head-end "
        "broker's; loaded again when it is replaced.",
    )
    packages: Path = Field(
        Path("packages"),
        description="Folder of the releases that `care` serves to controllers; `commonwatt fleet publish` fills it.",
    )
    http_proxies: tuple[ProxyNetwork, ...] = Field(
        (),
        description="IP addresses or networks of reverse proxies before `http`. Their `X-Forwarded-For` and "
        "`X-Forwarded-Proto` are taken as the client's; each has to set both itself.",
    )
    second_factor: Literal["optional", "approvers", "staff", "everybody"] = Field(
        "approvers",
        description="The people who must have a second factor at login. `optional`: each person may choose; "
        "`approvers`: the role `approver`; `staff`: all staff; `everybody`: all roles. Until a required factor is set "
        "up, the person can open no other page, and the person's tokens do not work.",
    )
    second_person_wait_days: int = Field(
        7,
        ge=0,
        le=365,
        description="Days for which a person can't be the second one of two people, after another person made the link "
        "of the password, gave the roles or removed the second factor; 0 only in a demonstration, with a `clock`.",
    )
    alertmanager: str | None = Field(
        None,
        pattern=r"^https?://[^/\s]+(/\S*)?$",
        description="The page of Prometheus's Alertmanager, such as `http://127.0.0.1:9093`, to which the console's "
        "alarms link. The utility itself asks it nothing.",
    )
    cliques: Path | None = Field(
        None,
        description="The controllers that take over for each other, with their keys; the office makes it. Without it "
        "the utility grants nothing. Needs `beats`.",
    )
    beats: Address | None = Field(None, description="Where controllers' beats and messages are received, by UDP.")
    clock: Path | None = Field(None, description="A demonstration's clock file; without it, the machine's clock.")
    clock_is_right: bool = Field(
        False,
        description="Whether gateways may use this machine's time although its kernel reports no NTP"
        " synchronisation, because another program synchronises it.",
    )
    gaps_s: Seconds = Field(300, description="How often the utility searches for missing slots.")
    gap_age_s: Seconds = Field(1800, description="How old a missing slot must be before its gateway is asked for it.")
    compact_s: Seconds = Field(900, description="How often the parts of finished quarters are joined.")
    keep_months: int = Field(
        6,
        ge=1,
        le=1200,
        description="Whole months (UTC) of readings to keep before the present month; older readings are deleted "
        "and not requested again, once their days are settled.",
    )
    keep_years: int = Field(
        7,
        ge=2,
        le=100,
        description="Years that settled days, sharing, corrections, and runs of bills with their receipts' inputs are "
        "kept; what a kept bill names is kept as long as the bill.",
    )
    settlement: SettlementSettings = Field(
        SettlementSettings(), description="How what flowed is divided among the members of each microgrid, and when."
    )
    supply: SupplySettings = Field(
        SupplySettings(), description="What the town's plant buys, and who is limited when power is short."
    )
    billing: BillingSettings = Field(
        BillingSettings(), description="The tariff of accounts that have none, and the regional price."
    )
    office: OfficeSettings = Field(OfficeSettings(), description="Who sends bills, where money goes, mail.")
    enrolment: Path | None = Field(
        None,
        description="The folder that `commonwatt utility register --out` wrote, with the authority's key: the console "
        "then issues and revokes certificates of devices. Without it, which is safer, its page shows the commands.",
    )
    site: Path | None = Field(
        None,
        description="The office's folder of a town that runs on this machine, such as a street's: the console sets up "
        "its devices there. Without it, it has no such pages.",
    )
    notify: NotifySettings = Field(
        NotifySettings(), description="Whom alarms call: critical ones at once, all others in one message a day."
    )
    exports: ExportSettings = Field(
        ExportSettings(), description="Files that the service exports by itself each month."
    )
    backup: BackupSettings = Field(BackupSettings(), description="The database's backups.")
    research: ResearchSettings = Field(ResearchSettings(), description="Releases for researchers.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.care is not None and None in (self.care_certificate, self.head_end_ca):
            raise ValueError("care needs care_certificate and head_end_ca")
        if self.backup.folder is not None and not self.database.startswith("sqlite"):
            raise ValueError(f"remove backup.folder, which is for an SQLite file; {PGBACKREST}")
        if self.name_in_cluster is not None and self.database.startswith("sqlite"):
            raise ValueError("name_in_cluster needs a PostgreSQL database: an SQLite file has one utility")
        if not self.second_person_wait_days and self.clock is None:
            raise ValueError(
                "second_person_wait_days = 0 is for a demonstration with a `clock` alone: with it, an administrator "
                "makes a second person at once; give 1 to 365 days"
            )
        return self
