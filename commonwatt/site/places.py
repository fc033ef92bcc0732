"""The site file, and the places of its town: their settings files, certificates and services."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from commonwatt.clique.cliques import BEATS_PORT, CLIQUE_FILE, exchanges, formed, orders
from commonwatt.config.files import check_model, place_of, read_toml, toml_table
from commonwatt.config.settings import GatewaySettings, Settings, settings_of
from commonwatt.doctor.running import check_settings
from commonwatt.identity.authority import (
    BROKER_DAYS,
    BROKER_FILE,
    DEVICE_DAYS,
    DEVICE_FILE,
    ENDED_DAYS,
    WantedCertificate,
)
from commonwatt.identity.certificates import Purpose
from commonwatt.identity.devices import DeviceRole
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import MeterId
from commonwatt.network.addresses import host_fault, split_address
from commonwatt.protocol.topics import UTILITY
from commonwatt.town.loading import names_of, town_of
from commonwatt.town.town import (
    CollectorsTable,
    Direction,
    Meter,
    MeterTable,
    MicrogridTable,
    Town,
    TownFile,
    TownTable,
)

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


HEAD_END = "head-end"  # folder of the head-end broker
SECOND = "utility-2"  # the place of a second machine with a head-end and a utility
_SECOND_HEAD_END = "head-end-2"  # the office's folder of that head-end

HEADER = f"# Written by `commonwatt site init` from {FILE}; make changes there.\n"
"""First line of each settings file, so that no file of a person is replaced."""

BACKUP_TIMER = "commonwatt-backup.timer"  # makes backups of a utility's SQLite database each night

# The certificates of a controller; with care their keys are made there.
MADE_THERE = (DEVICE_FILE[DeviceRole.GATEWAY], BROKER_FILE)

ADAPTER_FILE = "adapter.toml"  # an adapter's settings file
ADAPTER_TOKENS = "adapter-tokens.json"  # the tokens of its meters, and of no others

_OWN_HOST = "127.0.0.1"
_ADAPTER_HTTP = f"{_OWN_HOST}:9102"
_DAY_S = 86_400
_LISTEN = "0.0.0.0:8883"
_BEATS = f"0.0.0.0:{BEATS_PORT}"
_DATABASE = "postgresql+psycopg:///commonwatt?host=/var/run/postgresql"


@dataclass(frozen=True, kw_only=True)
class PartFile:
    """The settings file of a part."""

    folder: str  # its folder below the site's folder
    part: str  # the part that reads it
    keys: Mapping[str, Any]  # its keys
    stated: tuple[str | int, ...]  # where the site file states own keys of it, for errors

    @property
    def name(self) -> str:
        """Its path below the site's folder."""
        return f"{self.folder}/{self.part}.toml"

    @property
    def text(self) -> str:
        """Its content."""
        lists = [key for key in settings_of(self.part).lists if isinstance(found := self.keys.get(key), list) and found]
        tables = [toml_table(f"[{self.part}]", {key: self.keys[key] for key in self.keys if key not in lists})]
        tables += [toml_table(f"[[{key}]]", table) for key in lists for table in self.keys[key]]
        return HEADER + "\n".join(tables)

    def check(self, site: Path) -> None:
        """Check the keys; faults are named by their line in the site file.

        Raises:
            ConfigError: One line for each fault.
        """
        settings = check_model(site, settings_of(self.part), self.keys, prefix=self.stated)
        if self.part == "adapter":
            check_settings(self.part, settings, partial(place_of, site, *self.stated))


def folders_of(place: str) -> tuple[str, ...]:
    """Return the folders that a place's machine has: a microgrid's id has one, ``utility`` has two."""
    return (HEAD_END, UTILITY) if place == UTILITY else (place,)


def sources_of(place: str) -> dict[str, str]:
    """Return the folders of a place's machine, and the office's folder of each: second machines have the same names."""
    if place == SECOND:
        return {HEAD_END: _SECOND_HEAD_END, UTILITY: UTILITY}
    return {folder: folder for folder in folders_of(place)}


def places_of(site: SiteFile, town: Town) -> list[str]:
    """Return all places of a town, the utility's first."""
    return [UTILITY, *([] if site.site.second is None else [SECOND]), *town.microgrids]


def services_of(place: str, *, mosquitto: bool, adapter: bool = False) -> list[str]:
    """Return the systemd units of a place's machine, in the order in which they are started."""
    broker = f"commonwatt-{'mosquitto' if mosquitto else 'broker'}@{folders_of(place)[0]}.service"
    if place == UTILITY:
        return [broker, "commonwatt-utility.service"]
    return [broker, f"commonwatt-gateway@{place}.service", *([f"commonwatt-adapter@{place}.service"] * adapter)]


def is_on_sqlite(file: Mapping[str, Any]) -> bool:
    """Return whether the utility's settings file names an SQLite database, the default."""
    return str(file[UTILITY].get("database", "sqlite")).startswith("sqlite")


def runs_mosquitto(site: SiteFile, place: str) -> bool:
    """Return whether Mosquitto is the broker at a place."""
    return site.site.mosquitto if place in (UTILITY, SECOND) else _table_of(site)[place].mosquitto


def part_files(site: SiteFile, town: Town) -> Iterator[PartFile]:
    """Yield the settings file of each part."""
    listen = str(site.head_end.get("listen", _LISTEN))
    port = _port(listen, "head_end")
    keys = {"listen": listen, "certificate": BROKER_FILE, "clients_ca": "ca.pem", "clients_revoked": "revoked.pem"}
    for folder in (HEAD_END,) if site.site.second is None else (HEAD_END, _SECOND_HEAD_END):
        yield PartFile(folder=folder, part="broker", keys=keys | site.head_end, stated=("head_end",))
    hosts = [host for host in (site.site.utility, site.site.second) if host is not None]
    head_ends = [f"{_bracketed(host)}:{port}" for host in hosts]
    tls = {"head_end_ca": "ca.pem", "head_end_revoked": "revoked.pem"}
    utility = {
        "database": _DATABASE,
        "head_end": f"{_OWN_HOST}:{port}" if site.site.second is None else head_ends,
        **tls,
        "certificate": DEVICE_FILE[DeviceRole.UTILITY],
        "http": f"{_OWN_HOST}:8080",
    }
    if site.site.second is not None:
        utility |= {"name_in_cluster": "%H"}
    care = site.site.care
    if care is not None:
        utility |= {"care": f"0.0.0.0:{care}", "care_certificate": f"../{HEAD_END}/{BROKER_FILE}"}
    cliqued = _with_clique(town)
    if cliqued:
        utility |= {"cliques": CLIQUE_FILE, "beats": _BEATS}
    yield PartFile(folder=UTILITY, part="utility", keys=utility | site.utility, stated=("utility",))
    head_end = head_ends[0] if site.site.second is None else head_ends
    shared = {"head_end": head_end, **tls, "timezone": town.table.timezone}
    if care is not None:
        cares = cares_of(site)
        shared |= {"care": cares[0] if len(cares) == 1 else cares}
    for index, table in enumerate(site.microgrid):
        for name in names_of(table):
            own: dict[str, object] = {"clique": CLIQUE_FILE, "beats": _BEATS} if name in cliqued else {}
            own |= {"collects": some} if (some := town.collected_by(name)) else {}
            yield from _controller_files(name, table, index, shared | own, town)


def _controller_files(
    name: str, table: SiteMicrogrid, index: int, shared: Mapping[str, object], town: Town
) -> Iterator[PartFile]:
    listen = str(table.broker.get("listen", _LISTEN))
    port = _port(listen, f"{table.id}: broker")
    broker: dict[str, object] = {"listen": listen, "certificate": BROKER_FILE, "http": f"{_OWN_HOST}:9100"}
    gateway: dict[str, object] = {
        "microgrid": name,
        "broker": f"{_OWN_HOST}:{port}",
        "broker_ca": "ca.pem",
        **shared,
        "certificate": DEVICE_FILE[DeviceRole.GATEWAY],
        "http": f"{_OWN_HOST}:9101",
    }
    if table.adapter is not None:
        http = str(table.adapter.get("http", _ADAPTER_HTTP))
        gateway["adapter"] = f"{_OWN_HOST}:{_port(http, f'{table.id}: adapter', 'http')}"
    if "clients_ca" in table.broker:
        broker["clients_ended_days"] = ENDED_DAYS
    if table.lines:
        plan = GatewaySettings.model_fields["lte_allowance_bytes"].default
        gateway["lte_allowance_bytes"] = (1 + len(table.lines)) * plan
    own = ("microgrid", index)
    yield PartFile(folder=name, part="broker", keys=broker | table.broker, stated=(*own, "broker"))
    yield PartFile(folder=name, part="gateway", keys=gateway | table.gateway, stated=(*own, "gateway"))
    if table.adapter is not None:
        local = {key: gateway[key] for key in ("microgrid", "broker", "broker_ca")}
        adapter = local | {"tokens": ADAPTER_TOKENS, "zone": shared["timezone"], "http": _ADAPTER_HTTP}
        keys = adapter | table.adapter
        if isinstance(found := keys.get("meter"), list):
            registered = {meter.id: meter for meter in town.microgrids[name].meters}
            keys["meter"] = [_as_registered(meter, registered) for meter in found]
        yield PartFile(folder=name, part="adapter", keys=keys, stated=(*own, "adapter"))


def _as_registered(meter: object, registered: Mapping[MeterId, Meter]) -> object:
    """Return a meter of an adapter with the account and the direction that the town has for it, if it states none."""
    if not isinstance(meter, dict) or not isinstance(number := meter.get("id"), int) or number not in registered:
        return meter
    known = registered[MeterId(number)]
    taken: dict[str, object] = {"account": known.account} if known.account else {}
    taken |= {} if known.direction is Direction.INCOMING else {"direction": str(known.direction)}
    return meter | {key: value for key, value in taken.items() if key not in meter}


def address_of(site: SiteFile, town: Town, place: str) -> str:
    """Return the address at which a place's broker is reached: the utility's, or a controller's."""
    if place in (UTILITY, SECOND):
        return (site.site.second if place == SECOND else None) or site.site.utility
    return _table_of(site)[place].address or town.microgrids[place].address


def broker_of(site: SiteFile, town: Town, place: str) -> tuple[str, int]:
    """Return the host and port at which a microgrid's broker is reached."""
    return address_of(site, town, place), _port(str(_table_of(site)[place].broker.get("listen", _LISTEN)), place)


def cares_of(site: SiteFile) -> list[str]:
    """Return where controllers reach the utility's care listener, HOST:PORT of each machine; empty: there is none."""
    hosts = [host for host in (site.site.utility, site.site.second) if host is not None]
    return [] if site.site.care is None else [f"{_bracketed(host)}:{site.site.care}" for host in hosts]


def beats_of(site: SiteFile, town: Town) -> dict[str, str]:
    """Return where each controller, and the utility on each of its machines, receives beats, HOST:PORT."""
    own = dict.fromkeys(places_of(site, town), site.utility)
    own |= {name: _table_of(site)[name].gateway for name in town.microgrids}
    return {
        place: f"{_bracketed(address_of(site, town, place))}:{_port(str(keys.get('beats', _BEATS)), place)}"
        for place, keys in own.items()
    }


def _with_clique(town: Town) -> set[str]:
    """Return the controllers that others take over for, or that take over for others."""
    kinds = {name: microgrid.kind for name, microgrid in town.microgrids.items()}
    return {name for group in exchanges(orders(formed((), kinds), kinds)) for name in group}


def certificates(site: SiteFile, town: Town) -> list[WantedCertificate]:
    """Return the certificate of each broker, gateway and of the utility."""
    wanted = []
    for place in places_of(site, town):
        role = DeviceRole.GATEWAY if place in town.microgrids else DeviceRole.UTILITY
        broker = next(iter(sources_of(place).values()))
        lines = _table_of(site)[place].lines if place in town.microgrids else ()
        wanted.append(
            WantedCertificate(
                kind=Purpose.BROKER,
                name=broker,
                file=f"{broker}/{BROKER_FILE}",
                lifetime_s=BROKER_DAYS * _DAY_S,
                addresses=tuple(dict.fromkeys((address_of(site, town, place), *lines, _OWN_HOST))),
            )
        )
        if place != SECOND:  # Both utilities are one device.
            file = f"{place}/{DEVICE_FILE[role]}"
            wanted.append(
                WantedCertificate(kind=Purpose.DEVICE, name=place, file=file, lifetime_s=DEVICE_DAYS * _DAY_S)
            )
    return wanted


def _table_of(site: SiteFile) -> dict[str, SiteMicrogrid]:
    return {name: table for table in site.microgrid for name in names_of(table)}


def _port(listen: str, where: str, key: str = "listen") -> int:
    try:
        return split_address(listen)[1]
    except ValueError:
        raise ConfigError(f"{FILE}: {where}: {key} must be HOST:PORT, such as {_LISTEN}") from None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
