"""A town file as a town: its microgrids, counted or stated, and its further meters."""

import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from commonwatt.config.files import check_model, read_toml
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.ids import MeterId
from commonwatt.model.records import RecordType
from commonwatt.model.units import ControllerId, MicrogridId
from commonwatt.protocol.topics import MICROGRID_PATTERN
from commonwatt.town.counted import Builder
from commonwatt.town.file import MeterTable, MicrogridTable, TownFile
from commonwatt.town.places import read_places
from commonwatt.town.stated import microgrids_of
from commonwatt.town.town import (
    MAX_ACCOUNT,
    MAX_MICROGRIDS,
    RESERVED,
    Battery,
    Direction,
    Function,
    Meter,
    Microgrid,
    Town,
    address_of,
    foreign_addresses,
)

WHOLE_TOWN = Path(__file__).with_name("centertown.toml")  # the town of the specification: 802 microgrids (T1 to T4)


def load_town(path: Path) -> Town:
    """Read a town file.

    Raises:
        ConfigError: Naming the line, the key and what is allowed.
    """
    return town_of(check_model(path, TownFile, read_toml(path)), path)


def names_of(table: MicrogridTable) -> list[str]:
    """Return the names of the microgrids that a table stands for."""
    return [table.id] if table.count is None else [f"{table.id}{n:03d}" for n in range(1, table.count + 1)]


def town_of(file: TownFile, path: Path) -> Town:
    """Return the town of a file; ``path`` is named in errors.

    Raises:
        ConfigError: Two elements have one name, or there are too many.
    """
    if file.town.places is not None:
        return _with_further(file, path, microgrids_of(read_places(path.parent / file.town.places), stated=True))
    builder = Builder(file)
    for table in file.microgrid:
        for name in names_of(table):
            if name in builder.microgrids:
                raise ConfigError(f"{path}: microgrid {name} is there twice; give each [[microgrid]] its own id")
            if not re.fullmatch(MICROGRID_PATTERN, name):
                raise ConfigError(f"{path}: microgrid {name}: is too long a name; at most 16 characters")
            builder.add(name, table)
    if builder.accounts > MAX_ACCOUNT:
        raise ConfigError(f"{path}: {builder.accounts} accounts, more than records can name ({MAX_ACCOUNT})")
    if (number := len(builder.microgrids)) > MAX_MICROGRIDS:
        raise ConfigError(f"{path}: {number} microgrids, more than there are addresses for ({MAX_MICROGRIDS})")
    found = microgrids_of([place for places in builder.microgrids.values() for place in places], stated=False)
    # A microgrid may have meters of other makers alone.
    microgrids = {
        name: found.get(name) or Microgrid(id=name, number=n, kind=kind, address=address_of(n), meters=())
        for n, (name, kind) in enumerate(builder.kinds.items(), 1)
    }
    return _with_further(file, path, microgrids)


def _with_further(file: TownFile, path: Path, microgrids: dict[str, Microgrid]) -> Town:
    """Return the town with the meters of [[meter]] tables."""
    if taken := RESERVED & microgrids.keys():
        raise ConfigError(f"{path}: microgrid {min(taken)} has the name of a folder of the utility; give it another id")
    known = {meter.id: meter for microgrid in microgrids.values() for meter in microgrid.meters}
    addresses = foreign_addresses([m.id for m in file.meter], {m.address for m in known.values() if m.stated})
    added: dict[str, list[Meter]] = {name: [] for name in microgrids}
    by_replaced: dict[MeterId, MeterId] = {}
    for table in file.meter:
        if table.microgrid not in added:
            raise ConfigError(f"{path}: [[meter]] names microgrid {table.microgrid}, which is not in this file")
        if table.id in known:
            raise ConfigError(f"{path}: meter {table.id} is there twice; give the [[meter]] another id")
        replaced = None if table.replaces is None else known.get(table.replaces)
        if table.replaces is not None and (replaced is None or replaced.microgrid != table.microgrid):
            raise ConfigError(
                f"{path}: [[meter]] {table.id} replaces meter {table.replaces}, which {table.microgrid} does not have"
            )
        if replaced is not None and (other := by_replaced.setdefault(replaced.id, table.id)) != table.id:
            raise ConfigError(
                f"{path}: [[meter]] {other} and [[meter]] {table.id} both replace meter {replaced.id}; one meter "
                f"replaces one: if {table.id} came after {other}, write replaces = {other}"
            )
        known[table.id] = _foreign(table, addresses[table.id], replaced)
        added[table.microgrid].append(known[table.id])
    return Town(
        table=file.town,
        microgrids={name: replace(one, meters=(*one.meters, *added[name])) for name, one in microgrids.items()},
        collectors=_collectors(file, path, microgrids),
    )


def _collectors(
    file: TownFile, path: Path, microgrids: Collection[MicrogridId]
) -> dict[MicrogridId, tuple[ControllerId, ...]]:
    """Return the collectors of each microgrid that has some."""
    found: dict[MicrogridId, tuple[ControllerId, ...]] = {}
    for table in file.collectors:
        if unknown := [name for name in (table.microgrid, *table.controllers) if name not in microgrids]:
            raise ConfigError(f"{path}: [[collectors]] names {unknown[0]}, which is not in this file")
        if table.microgrid in found or len({table.microgrid, *table.controllers}) <= len(table.controllers):
            raise ConfigError(f"{path}: [[collectors]] of {table.microgrid}: names a controller or a microgrid twice")
        found[table.microgrid] = table.controllers
    return found


def _foreign(table: MeterTable, address: str, replaced: Meter | None) -> Meter:
    if replaced is not None:
        return replace(replaced, id=table.id, address=address, replaces=replaced.id, stated=True)
    battery = None
    if table.battery_capacity_mwh is not None:
        battery = Battery(capacity=table.battery_capacity_mwh, minimum_percent=50)
    return Meter(
        id=table.id,
        microgrid=table.microgrid,
        address=address,
        location=table.location,
        function=Function.ADAPTED if table.adapter else Function.FOREIGN,
        direction=Direction(table.direction),
        account=table.account,
        record_types=tuple(sorted(RecordType[name.upper()] for name in table.record_types)),
        service_amps=table.service_amps,
        battery=battery,
        shares=table.shares,
        stated=True,
    )
