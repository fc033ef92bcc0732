"""Makes releases of single homes under pseudonyms: quarter-hours, or slots of 15 s."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.times import iso
from commonwatt.model.units import EpochSeconds
from utility.research import store as store
from utility.research.coarsening import coarsened, sampled
from utility.research.documents import Facts, data_columns, measures_of, name_columns
from utility.research.figures import attacks_on_pseudonyms, errors_of
from utility.research.homes import HALF_HOUR_S, HomeMeter, Homes, Measure, meters_of, quarters_of
from utility.research.jobs.files import Block, DataFile, new_folder, write_release
from utility.research.jobs.source import Result, Source, code_version, keep, place_of
from utility.research.release import Asked, Tier, id_of, known_percent
from utility.research.secret import digest_of, pseudonym, random_of

HOMES_AT_A_TIME = 200  # homes whose slots of a day are in memory at once

_DAY_S = 86_400


def agreement_of(source: Source, asked: Asked) -> store.Agreement:
    """Return the agreement under which identifiable data is released."""
    add = "add one with: commonwatt research agreement add NAME --until DATE"
    if not asked.agreement:
        raise ConfigError("agreement: homes can be identified, so one is needed", add)
    found = source.database.read(store.find_agreement, asked.agreement)
    if found is None:
        raise ConfigError(f"agreement {asked.agreement}: there is none of this name", add)
    if found.until <= source.now:
        raise ConfigError(f"agreement {asked.agreement}: ended {iso(found.until)}", add)
    return found


def release_homes(source: Source, asked: Asked, homes: Homes, meters: Sequence[HomeMeter], out: Path | None) -> Result:
    """Write a release of single homes.

    Args:
        source: Where it comes from.
        homes: All homes of the period, in quarter-hours.
        out: The new folder; ``None``: that of the release in the folder of the settings.
    """
    agreed = agreement_of(source, asked)
    random = random_of(source.secret, "coarsening", f"{asked.start} {asked.end} {asked.options}")
    chosen = sampled(homes, asked.coarsening, random)
    if asked.is_by_slot:
        slots = _Slots(source, asked, homes, chosen, meters)
        seen, digest = slots.half_hours()
    else:
        seen, digest = coarsened(chosen, asked.coarsening, random), digest_of(source.secret, homes)
    release = id_of(asked, digest, source.secret, code_version())
    attacks = attacks_on_pseudonyms(
        homes.in_steps(HALF_HOUR_S), seen, asked.coarsening, source.zone, random_of(source.secret, "attack", release)
    )
    facts = Facts(
        id=release,
        town=str(source.figures.get("name", "")),
        asked=asked,
        version=code_version(),
        homes=len(chosen.homes),
        left_out=len(homes.homes) - len(chosen.homes),
        known_percent=known_percent(chosen),
        attacks=attacks,
        errors=None if asked.is_by_slot else errors_of(homes, seen),
        until=agreed.until,
    )
    named = _Named(seen, [pseudonym(source.secret, release, home.key) for home in chosen.homes])
    files = [DataFile(stem="homes", columns=name_columns(asked.tier), rows=named.listed())]
    files += slots.files(named) if asked.is_by_slot else [named.file("readings")]
    place = place_of(source, out, release)
    if out is None and place.exists():
        return Result(facts=facts, written=True, out=place)  # the same id has the same bytes
    with new_folder(place) as folder:
        write_release(folder, facts, files)
        keep(source, facts, "released")
    return Result(facts=facts, written=True, out=place)


class _Named:
    """Homes in the order of their pseudonyms."""

    def __init__(self, homes: Homes, names: Sequence[str]) -> None:
        self._homes, self._names = homes, names
        self.order: list[int] = [int(row) for row in np.argsort(names)]

    def name_of(self, row: int) -> str:
        """Return the pseudonym of a home."""
        return self._names[row]

    def listed(self) -> list[tuple[str, str]]:
        """Return each pseudonym with its function."""
        return [(self._names[row], self._homes.homes[row].function.value) for row in self.order]

    def file(self, stem: str) -> DataFile:
        """Return the file of all readings."""
        return DataFile(
            stem=stem,
            columns=data_columns(Tier.HOMES),
            blocks=lambda: [block_of(self._homes.take(self.order), [self._names[row] for row in self.order])],
        )


def block_of(homes: Homes, names: Sequence[str]) -> Block:
    """Return homes' energies under names."""
    measures = measures_of(Tier.HOMES)
    return Block(
        names=names,
        times=homes.times,
        values=[homes.values[measure] for measure in measures],
        shown=[homes.known] * len(measures),
    )


@dataclass(frozen=True)
class _Slots:
    """Readings by slot of 15 s, some homes of a day at a time: once for the attacks, once for the files."""

    source: Source  # where they come from
    asked: Asked  # what is asked
    homes: Homes  # all homes of the period
    chosen: Homes  # the released ones
    meters: Sequence[HomeMeter]  # the meters of all homes

    def half_hours(self) -> tuple[Homes, str]:
        """Return the released homes in half-hours after coarsening, for the attacks; and a digest of the readings."""
        shape = (len(self.chosen.homes), (self.asked.end - self.asked.start) // HALF_HOUR_S)
        values = {measure: np.zeros(shape, np.int64) for measure in Measure}
        known, digests = np.zeros(shape, np.bool_), []
        everyone = list(range(shape[0]))
        for start, end in self._days():
            for rows, loaded in self._chunks(everyone, start, end):
                digests.append(digest_of(self.source.secret, loaded))
                part = self._coarse(loaded).in_steps(HALF_HOUR_S)
                at = (part.start - self.asked.start) // HALF_HOUR_S
                place = np.ix_(np.array(rows), np.arange(at, at + part.known.shape[1]))
                known[place] = part.known
                for measure in Measure:
                    values[measure][place] = part.values[measure]
        seen = replace(self.chosen, start=self.asked.start, step_s=HALF_HOUR_S, values=values, known=known)
        return seen, " ".join(digests)

    def files(self, named: _Named) -> list[DataFile]:
        """Return a file for each UTC day."""
        return [
            DataFile(
                stem=f"readings-{iso(start)[:10]}",
                columns=data_columns(Tier.HOMES),
                blocks=lambda start=start, end=end: self._blocks(named, start, end),  # type: ignore[misc]
            )
            for start, end in self._days()
        ]

    def _blocks(self, named: _Named, start: EpochSeconds, end: EpochSeconds) -> Iterator[Block]:
        for rows, loaded in self._chunks(named.order, start, end):
            yield block_of(self._coarse(loaded), [named.name_of(row) for row in rows])

    def _days(self) -> Iterator[tuple[EpochSeconds, EpochSeconds]]:
        """Yield the UTC days of the period, the first and the last perhaps in part."""
        start = self.asked.start
        while start < self.asked.end:
            end = min(self.asked.end, (start // _DAY_S + 1) * _DAY_S)
            yield start, end
            start = end

    def _chunks(
        self, order: Sequence[int], start: EpochSeconds, end: EpochSeconds
    ) -> Iterator[tuple[list[int], Homes]]:
        row_of = {home: row for row, home in enumerate(self.homes.homes)}
        for first in range(0, len(order), HOMES_AT_A_TIME):
            rows = list(order[first : first + HOMES_AT_A_TIME])
            some = [self.chosen.homes[row] for row in rows]
            meters = meters_of(self.meters, [row_of[home] for home in some])
            yield rows, store.load_slots(self.source.database, some, meters, *quarters_of(start, end))

    def _coarse(self, loaded: Homes) -> Homes:
        # No randomness: noise and shuffled days are of quarter-hours only.
        return coarsened(loaded, self.asked.coarsening, np.random.default_rng(0))
