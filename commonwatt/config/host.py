"""The settings of a host: one process with the gateways of several controllers."""

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from commonwatt.config.settings import HTTP_HOSTS, HTTP_PLAIN_TEXT, HostName, MicrogridName, Reach, Settings
from commonwatt.network.addresses import Address

MOST_CONTROLLERS = 200  # most controllers of a host


class HostSettings(Settings):
    """A host: the gateways of several controllers in one process, each with its own file, stores and connections."""

    reaches: ClassVar[tuple[Reach, ...]] = (Reach("http", None, "http_plain_text"),)

    controllers: tuple[MicrogridName, ...] = Field(
        examples=[["r001", "r002"]], description="The controllers whose gateways run here, by name."
    )
    files: str = Field(
        "../{controller}/gateway.toml",
        pattern=r"\{controller\}",
        description="The settings file of each, relative to this file; the same that `commonwatt gateway run` takes.",
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
