"""The settings of a fleet of emulated meters."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

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
from commonwatt.network.addresses import Address, Addresses

_CERTIFICATE = (
    "The plant's certificate with its key, one PEM file, for a broker that asks for it. "
    "Made by `commonwatt enroll device`."
)


class PlantSettings(Settings):
    """The town's plant: its battery and its line to the regional grid, emulated beside the meters."""

    reaches: ClassVar[tuple[Reach, ...]] = (Reach("head_end", "head_end_ca", "head_end_plain_text"),)

    store: Path = Field(Path("plant.db"), description="The plant's own storage (SQLite); made when missing.")
    head_end: Addresses | None = Field(
        None,
        description="The utility's broker, over which the plant gets its commands; without it the plant gets none. "
        "A list of two: as for a gateway.",
    )
    head_end_ca: Path | None = Field(None, description=BROKER_CA.format("the head-end"))
    head_end_revoked: Path | None = Field(None, description=BROKER_REVOKED.format("head_end_ca"))
    head_end_plain_text: bool = Field(False, description=PLAIN_TEXT)
    certificate: Path | None = Field(None, description=_CERTIFICATE)
    tokens: Path | None = Field(
        None, description="The plant's token, for `head_end`; made by `commonwatt utility register`."
    )

    @model_validator(mode="after")
    def _token_for_the_head_end(self) -> Self:
        if self.head_end is not None and self.tokens is None:
            raise ValueError("head_end needs tokens, such as plant-tokens.json of `commonwatt utility register`")
        return self


_RANK = "Commands that come over {} are obeyed only under this rank of their epoch; without it, under any."

Rank = Annotated[int | None, Field(ge=0, lt=2**16)]


class InstalledBroker(Settings):
    """A further broker of emulated meters."""

    name: MicrogridName = Field(examples=["r002"], description="The controller of this broker.")
    address: Address = Field(examples=["127.0.0.1:1884"], description="Its address.")
    rank: Rank = Field(None, description=_RANK.format("this broker"))
    warm: bool = Field(
        False,
        description="Whether those with a battery, and at least four, hold silent sessions there; for one of `clique`.",
    )


class MetersSettings(Settings):
    """A fleet of emulated meters: all meters of one microgrid or of several, with one physics."""

    reaches: ClassVar[tuple[Reach, ...]] = (
        Reach("broker", "broker_ca", "broker_plain_text"),
        Reach("http", None, "http_plain_text"),
    )
    gone: ClassVar[Mapping[str, str]] = {"files": "is fixed: `../MICROGRID/meters.toml`; remove the key"}
    lists: ClassVar[tuple[str, ...]] = ("brokers",)

    microgrid: MicrogridName | None = Field(None, examples=["r001"], description="The microgrid of these meters.")
    microgrids: tuple[MicrogridName, ...] = Field(
        (),
        description="Instead of `microgrid`: microgrids whose meters run in one process, with one physics. Each has a "
        "file of its own, `../MICROGRID/meters.toml`, with its broker, store and tokens.",
    )
    town: Path = Field(Path("town.toml"), description="The town file.")
    store: Path = Field(
        Path("meters.db"), description="The meters' own storage and the truth log (SQLite); made when missing."
    )
    tokens: Path = Field(
        Path("meter-tokens.json"), description="The meters' tokens; made by `commonwatt utility register`."
    )
    broker: Address = Field("127.0.0.1:1883", description="The microgrid's broker.")
    broker_rank: Rank = Field(None, description=_RANK.format("the microgrid's broker"))
    brokers: tuple[InstalledBroker, ...] = Field(
        (),
        max_length=100,
        description="Further brokers, to which the meters send when the microgrid's broker does not answer: the first "
        "two, in this order. A meter has those of `clique` and some of the others, in turn, eight "
        "in all. Their tokens there are made from `meter-secrets.json`, beside `tokens`; each has "
        "`broker_ca`. The boundary's meters have none of them.",
    )
    clique: tuple[MicrogridName, ...] = Field(
        (),
        max_length=3,
        description="The controllers from whose brokers commands are obeyed, the microgrid's own among them; without "
        "it, from all.",
    )
    authority: Path | None = Field(
        None,
        description="The certificate of the office's authority: with it the meters leave the controllers that a list "
        "signed by it calls revoked, and visit each broker of `clique` once a week to hear of such a list.",
    )
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
        2_000_000, ge=100, description="Most records in a meter's log; at nine tenths it consolidates them."
    )
    failures_per_day: float = Field(
        4.0, ge=0, le=1000, description="How often a meter fails for 10 to 15 s, on average."
    )
    levels: Path | None = Field(
        None,
        description="JSON with the levels of batteries at the first start, milliwatt-hours by meter id, such as "
        "those at the end of a demonstration's past; without it, and for other batteries, levels near 75 %.",
    )
    plant: PlantSettings | None = Field(
        None, description="The town's plant, in the process of several microgrids; without it, the town has no limits."
    )

    @property
    def unused(self) -> frozenset[str]:
        """Keys of one microgrid, in a file of several."""
        return _OF_ONE if self.microgrids else frozenset()

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if (self.microgrid is None) == (not self.microgrids):
            raise ValueError("give either microgrid, the one of these meters, or microgrids, several in one process")
        if len(set(self.microgrids)) != len(self.microgrids):
            raise ValueError("microgrids names one twice")
        theirs = self.model_fields_set & _OF_ONE
        if self.microgrids and theirs:
            raise ValueError(f"with microgrids, {min(theirs)} is a key of each microgrid's own file")
        if self.microgrid is not None and self.plant is not None:
            raise ValueError("the plant needs microgrids, the microgrids of the town")
        return self

    @model_validator(mode="after")
    def _installed_brokers(self) -> Self:
        names = [self.microgrid, *(one.name for one in self.brokers)]
        if len(set(names)) < len(names):
            raise ValueError("brokers names one twice, or the microgrid's own")
        if unknown := set(self.clique) - set(names):
            raise ValueError(f"clique names {min(unknown)}, which is not one of brokers")
        for one in self.brokers:
            reached = self.model_copy(update={"broker": one.address})
            if fault := self.reaches[0].fault(reached):
                raise ValueError(f"brokers, {one.name}: {fault}")
        return self


_OF_ONE = frozenset(
    {
        "store",
        "tokens",
        "broker",
        "broker_ca",
        "broker_revoked",
        "broker_plain_text",
        "broker_rank",
        "brokers",
        "clique",
        "authority",
        "certificates",
        "resolution_mwh",
        "log_records",
        "failures_per_day",
    }
)
