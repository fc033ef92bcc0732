"""The settings of a fleet of emulated meters."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from commonwatt.config.settings import (
    BROKER_CA,
    BROKER_REVOKED,
    HTTP_HOSTS,
    HTTP_PLAIN_TEXT,
    PLAIN_TEXT,
    HostName,
    MicrogridName,
    Reach,
    Settings,
)
from commonwatt.network.addresses import Address


class MetersSettings(Settings):
    """A fleet of emulated meters: all meters of one microgrid, with their physics."""

    reaches: ClassVar[tuple[Reach, ...]] = (
        Reach("broker", "broker_ca", "broker_plain_text"),
        Reach("http", None, "http_plain_text"),
    )

    microgrid: MicrogridName = Field(description="The microgrid of these meters.")
    town: Path = Field(Path("town.toml"), description="The town file.")
    store: Path = Field(
        Path("meters.db"), description="The meters' own storage and the truth log (SQLite); made when missing."
    )
    tokens: Path = Field(
        Path("meter-tokens.json"), description="The meters' tokens; made by `commonwatt utility register`."
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
    http: Address | None = Field(
        None, description="Where /metrics (Prometheus) and /status (JSON) are served; without it, nowhere."
    )
    http_plain_text: bool = Field(False, description=HTTP_PLAIN_TEXT)
    http_hosts: tuple[HostName, ...] = Field((), description=HTTP_HOSTS)
    clock: Path | None = Field(None, description="A demonstration's clock file; without it, the machine's clock.")
    resolution_mwh: int = Field(
        100, ge=1, le=1_000_000, description="Readings are multiples of this many milliwatt-hours."
    )
    log_records: int = Field(
        2_000_000, ge=1_000, description="Most records in a meter's log; at nine tenths it consolidates them."
    )
    failures_per_day: float = Field(
        4.0, ge=0, le=1000, description="How often a meter fails for 10 to 15 s, on average."
    )
