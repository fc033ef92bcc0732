"""The site file, ``site.toml``, from which ``commonwatt site init`` makes every file of a town."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from commonwatt.config.files import check_model, read_toml
from commonwatt.config.settings import Settings
from commonwatt.network.addresses import host_fault
from commonwatt.town.file import CollectorsTable, MeterTable, MicrogridTable, TownFile, TownTable
from commonwatt.town.loading import town_of
from commonwatt.town.town import Town

FILE = "site.toml"  # the site file, in the office's folder
TOWN_FILE = "town.toml"  # the town file that is made from it

EXAMPLE = """\
# The town: `commonwatt site init` makes every file from this one. docs/reference/settings.md has all keys.
[site]
utility = "utility.example"  # host name or IP address at which controllers reach the utility
# care = 8444  # the utility's port at which controllers join by labels

[town]
name = "Springfield"
timezone = "Europe/Berlin"

# Append further microgrids and meters at the end; an insertion would renumber meters, and is refused.
[[microgrid]]
id = "r001"
kind = "residential"  # or "apartment" (buildings, apartments), or "public"
houses = 8
address = "10.1.0.1"  # host name or IP address at which meters reach its controller
"""


def _check_host(text: str) -> str:
    if fault := host_fault(text):
        raise ValueError(fault)
    return text


Host = Annotated[str, AfterValidator(_check_host)]  # a host name or IP address, without a port

_OWN_KEYS = "Keys of {}, beside those that `commonwatt site init` writes or in place of them."


class SiteTable(Settings):
    """The utility's machine."""

    utility: Host = Field(description="The host name or IP address at which controllers reach the utility.")
    second: Host | None = Field(
        None,
        description="The same of a second machine with a head-end and a utility, both utilities with one PostgreSQL "
        "(`database` in `[utility]`); its bundle is `utility-2`.",
    )
    mosquitto: bool = Field(True, description="Run Mosquitto as the head-end broker; otherwise our broker.")
    care: int | None = Field(
        None,
        ge=1,
        le=65_535,
        description="The utility's port at which controllers join, renew their certificates and fetch releases, such "
        "as 8444; absent: they are cared for by bundles. With it the utility gets an enrolment authority.",
    )


class SiteMicrogrid(MicrogridTable):
    """A microgrid, as in the town file, and its controller."""

    address: Host | None = Field(
        None,
        description="The host name or IP address at which meters reach the controller; without it, the controller's "
        "static address in the town.",
    )
    lines: tuple[Host, ...] = Field(
        (),
        max_length=50,
        description="Further addresses of the controller, each of an LTE line of its own. Give its meters `address` "
        "and these in turn. The allowance of the plan is the sum of all lines.",
    )
    mosquitto: bool = Field(False, description="Run Mosquitto as the controller's broker; otherwise our broker.")
    broker: dict[str, Any] = Field({}, description=_OWN_KEYS.format("the controller's `broker.toml`"))
    gateway: dict[str, Any] = Field({}, description=_OWN_KEYS.format("its `gateway.toml`"))
    adapter: dict[str, Any] | None = Field(None, description=_OWN_KEYS.format("its `adapter.toml`, if it has one"))

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if self.count is not None and (self.address is not None or self.lines or self.adapter is not None):
            what = "an address" if self.adapter is None else "an adapter"
            raise ValueError(f"{what} is of one controller, but count makes several; give each a [[microgrid]]")
        return self


class SiteFile(Settings):
    """A site file."""

    site: SiteTable
    head_end: dict[str, Any] = Field({}, description=_OWN_KEYS.format("the head-end's `broker.toml`"))
    utility: dict[str, Any] = Field({}, description=_OWN_KEYS.format("`utility.toml`"))
    town: TownTable = TownTable()
    microgrid: list[SiteMicrogrid] = Field(min_length=1, max_length=1000)
    meter: list[MeterTable] = Field(default_factory=list)
    collectors: list[CollectorsTable] = Field(default_factory=list)

    def town_file(self) -> TownFile:
        """Return the part that is the town file."""
        own = SiteMicrogrid.model_fields.keys() - MicrogridTable.model_fields.keys()
        microgrids = [
            MicrogridTable(**table.model_dump(exclude_unset=True, exclude=set(own))) for table in self.microgrid
        ]
        return TownFile(town=self.town, microgrid=microgrids, meter=self.meter, collectors=self.collectors)

    def town_text(self) -> str:
        """Return the town file's text."""
        return f"# Written by `commonwatt site init` from {FILE}; make changes there.\n\n{self.town_file().text()}"


def load_site(path: Path) -> tuple[SiteFile, Town]:
    """Read a site file and the town in it.

    Raises:
        ConfigError: Naming the line, the key and what is allowed.
    """
    file = check_model(path, SiteFile, read_toml(path))
    return file, town_of(file.town_file(), path)
