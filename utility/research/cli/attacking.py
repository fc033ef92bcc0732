"""Attacks a release's folder as it is, also one that was changed by hand."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.times import parse_time
from utility.research.attacks.aggregates import attacks_on
from utility.research.attacks.success import Success
from utility.research.cli.source import Source, homes_in
from utility.research.coarsening import Coarsening
from utility.research.documents import data_columns, measures_of
from utility.research.figures import attacks_on_pseudonyms
from utility.research.groups import OpenSums, filled, grouped
from utility.research.homes import HALF_HOUR_S, Homes, Measure
from utility.research.release import Asked, Tier
from utility.research.secret import pseudonym, random_of

_MWH = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Folder:
    """What a release's folder says of itself."""

    id: str
    asked: Asked
    path: Path


def open_folder(path: Path) -> Folder:
    """Return what a folder says of itself.

    Raises:
        ConfigError: It has no manifest of a release.
    """
    name = path / "datapackage.json"
    try:
        found = json.loads(name.read_text(encoding="utf-8"))
        facts = found["release"]
        options = dict(facts["options"])
        tier = Tier(facts["tier"])
        least, agreement = options.pop("min_homes", 1), options.pop("agreement", "")
        asked = Asked(
            tier=tier,
            start=parse_time(facts["from"], "from"),
            end=parse_time(facts["until"], "until"),
            min_homes=int(least),
            coarsening=Coarsening(**options),
            agreement=str(agreement),
        )
        return Folder(id=str(found["id"]), asked=asked, path=path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{name}: not of a release: {error!r:.200}") from error


def attack(source: Source, folder: Folder) -> list[Success]:
    """Return the success of each attack on the data in a folder.

    Raises:
        ConfigError: A file is missing or is none; or its groups are not those of the homes' readings.
    """
    source.log("attack", folder.id, str(folder.path))
    homes, _ = homes_in(source, folder.asked, lambda _: None)
    random = random_of(source.secret, "attack", folder.id)
    if folder.asked.tier is Tier.OPEN:
        whole = filled(homes)
        return attacks_on(whole.in_steps(HALF_HOUR_S), _sums(source, folder, whole), source.zone, random)
    seen = _homes(source, folder, homes)
    return list(attacks_on_pseudonyms(homes.in_steps(HALF_HOUR_S), seen, folder.asked.coarsening, source.zone, random))


def _sums(source: Source, folder: Folder, whole: Homes) -> OpenSums:
    asked = folder.asked
    groups = {g.name: g for g in grouped(whole.in_steps(asked.step_s), source.secret, asked.min_homes)}
    names, values, shown = _table(folder, asked.step_s)
    if unknown := sorted(set(names) - groups.keys()):
        raise ConfigError(
            f"{folder.path}: groups {', '.join(unknown[:5])} are not those of the readings: readings that came "
            "later, or another secret, have changed the groups"
        )
    measures = measures_of(Tier.OPEN)
    return OpenSums(
        groups=tuple(groups[name] for name in names),
        start=asked.start,
        step_s=asked.step_s,
        values=dict(zip(measures, values, strict=True)),
        shown=dict(zip(measures, shown, strict=True)),
    )


def _homes(source: Source, folder: Folder, homes: Homes) -> Homes:
    """Return the homes in a folder in half-hours or hours, with their true names."""
    step_s = max(HALF_HOUR_S, folder.asked.step_s)
    names, values, shown = _table(folder, step_s)
    by_name = {pseudonym(source.secret, folder.id, home.key): home for home in homes.homes}
    if unknown := [name for name in names if name not in by_name]:
        raise ConfigError(f"{folder.path}: no home has the pseudonym {unknown[0]}: another secret made this release")
    return replace(
        homes,
        homes=tuple(by_name[name] for name in names),
        start=folder.asked.start,
        step_s=step_s,
        values=dict(zip(Measure, values, strict=True)),
        known=shown[0],
    )


def _table(folder: Folder, step_s: int) -> tuple[list[str], list[np.ndarray], list[np.ndarray]]:
    """Return the names in a folder, and each column's sums and whether they are whole, (names, steps)."""
    asked = folder.asked
    row_of: dict[str, int] = {}
    cells: list[tuple[int, int, list[str]]] = []
    for name, start, energies in _rows(folder):
        row = row_of.setdefault(name, len(row_of))
        cells.append((row, (_epoch(start) - asked.start) // step_s, energies))
    count = len(data_columns(asked.tier)) - 2
    shape = (count, len(row_of), (asked.end - asked.start) // step_s)
    values, there = np.zeros(shape, np.int64), np.zeros(shape, np.int32)
    for row, step, energies in cells:
        if 0 <= step < shape[2]:
            for column, text in enumerate(energies):
                if text:
                    values[column, row, step] += round(float(text) * _MWH)
                    there[column, row, step] += 1
    shown = there == step_s // asked.step_s
    return list(row_of), list(values), list(shown)


def _rows(folder: Folder) -> Iterator[tuple[str, str, list[str]]]:
    stem = "sums" if folder.asked.tier is Tier.OPEN else "readings"
    paths = sorted(folder.path.glob(f"{stem}*.csv"))
    if not paths:
        raise ConfigError(f"{folder.path}: has no {stem}.csv")
    width = len(data_columns(folder.asked.tier))
    for path in paths:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            next(reader, None)
            for number, row in enumerate(reader, 2):
                try:
                    if len(row) != width:
                        raise ValueError(f"{len(row)} columns, not {width}")
                    _ = _epoch(row[1]), [float(text) for text in row[2:] if text]
                except ValueError as error:
                    raise ConfigError(f"{path}: line {number}: {error}") from error
                yield row[0], row[1], row[2:]


def _epoch(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())
