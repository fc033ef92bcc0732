"""Makes releases as asked: homes under pseudonyms, or sums of groups; refused, written, or kept for approval."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from commonwatt.model.calendar import iso
from commonwatt.model.exceptions import CommonwattError, ConfigError
from commonwatt.model.text import counted
from commonwatt.model.units import QUARTER_S, EpochSeconds
from utility.access.people import Actor
from utility.access.store.audit_log import record
from utility.database.database import open_database
from utility.readings.store.parts import count_fresh
from utility.research import store
from utility.research.coarsening import Coarsening, coarsened, sampled
from utility.research.documents import ReleaseFacts, data_columns, measures_of, name_columns
from utility.research.groups import MIN_HOMES
from utility.research.homes import (
    HALF_HOUR_S,
    HomeMeasure,
    HomeMeter,
    Homes,
    digest_of,
    meters_of,
    pseudonym,
    quarters_of,
    random_of,
)
from utility.research.jobs.files import DataFile, EnergyBlock, new_folder, write_release
from utility.research.jobs.source import ReleaseResult, ReleaseSource, code_version, homes_in, keep, place_of, source_of
from utility.research.release import (
    AskedRelease,
    OpenRelease,
    Tier,
    attacks_on_pseudonyms,
    errors_of,
    id_of,
    is_above,
    known_percent,
    open_release,
)
from utility.settings import UtilitySettings

HOMES_AT_A_TIME = 200  # homes whose slots of a day are in memory at once

_DAY_S = 86_400


def agreement_of(source: ReleaseSource, asked: AskedRelease) -> store.Agreement:
    """Return the agreement under which identifiable data is released."""
    add = "add one with: commonwatt do agreements name=NAME until=DATE"
    if not asked.agreement:
        raise ConfigError("agreement: homes can be identified, so one is needed", add)
    agreement = source.database.read(store.find_agreement, asked.agreement)
    if agreement is None:
        raise ConfigError(f"agreement {asked.agreement}: there is none of this name", add)
    if agreement.until <= source.now:
        raise ConfigError(f"agreement {asked.agreement}: ended {iso(agreement.until)}", add)
    return agreement


def release_homes(
    source: ReleaseSource, asked: AskedRelease, homes: Homes, meters: Sequence[HomeMeter], out: Path | None
) -> ReleaseResult:
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
    random = random_of(source.secret, "attack", release)
    attacks = attacks_on_pseudonyms(homes.in_steps(HALF_HOUR_S), seen, source.zone, random)
    facts = ReleaseFacts(
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
        return ReleaseResult(facts=facts, written=True, out=place)  # the same id has the same bytes
    with new_folder(place) as folder:
        write_release(folder, facts, files)
        keep(source, facts, "released")
    return ReleaseResult(facts=facts, written=True, out=place)


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


def block_of(homes: Homes, names: Sequence[str]) -> EnergyBlock:
    """Return homes' energies under names."""
    measures = measures_of(Tier.HOMES)
    return EnergyBlock(
        names=names,
        times=homes.times,
        values=[homes.values[measure] for measure in measures],
        shown=[homes.known] * len(measures),
    )


@dataclass(frozen=True)
class _Slots:
    """Readings by slot of 15 s, some homes of a day at a time: once for the attacks, once for the files."""

    source: ReleaseSource  # where they come from
    asked: AskedRelease  # what is asked
    homes: Homes  # all homes of the period
    chosen: Homes  # the released ones
    meters: Sequence[HomeMeter]  # the meters of all homes

    def half_hours(self) -> tuple[Homes, str]:
        """Return the released homes in half-hours after coarsening, for the attacks; and a digest of the readings."""
        shape = (len(self.chosen.homes), (self.asked.end - self.asked.start) // HALF_HOUR_S)
        values = {measure: np.zeros(shape, np.int64) for measure in HomeMeasure}
        known, digests = np.zeros(shape, np.bool_), []
        everyone = list(range(shape[0]))
        for start, end in self._days():
            for rows, loaded in self._chunks(everyone, start, end):
                digests.append(digest_of(self.source.secret, loaded))
                part = self._coarse(loaded).in_steps(HALF_HOUR_S)
                at = (part.start - self.asked.start) // HALF_HOUR_S
                place = np.ix_(np.array(rows), np.arange(at, at + part.known.shape[1]))
                known[place] = part.known
                for measure in HomeMeasure:
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

    def _blocks(self, named: _Named, start: EpochSeconds, end: EpochSeconds) -> Iterator[EnergyBlock]:
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
        # No randomness: noise is of quarter-hours only.
        return coarsened(loaded, self.asked.coarsening, np.random.default_rng(0))


def release_open(source: ReleaseSource, asked: AskedRelease, homes: Homes, out: Path | None) -> ReleaseResult:
    """Write an open release, or keep it until a second person approves it.

    Raises:
        ConfigError: It can't be released as asked; says what to do.
    """
    earlier = earlier_sums(source, asked)
    release = open_release(asked, homes, earlier, source.zone, source.secret, code_version())
    if not release.sums.groups:
        raise ConfigError(_nothing(asked, homes, release))
    facts = _facts(source, asked, homes, release)
    kept = source.database.read(store.find_release, release.id)
    is_free = not is_above(release.attacks, source.settings.research.limit_percent)
    is_free |= kept is not None and kept.state in ("approved", "released")
    place = place_of(source, out, release.id)
    if is_free and out is None and place.exists():
        return ReleaseResult(facts=facts, written=True, out=place)  # the same id has the same bytes
    if is_free:
        with new_folder(place) as folder:
            write_release(folder, facts, _files(release))
            keep(source, facts, "released", release.digests, earlier)
    else:
        keep(source, facts, "waiting", release.digests)
    return ReleaseResult(facts=facts, written=is_free, out=place)


def earlier_sums(source: ReleaseSource, asked: AskedRelease) -> list[dict[str, str]]:
    """Return the digests of the groups in earlier releases of the same sums."""
    first, until = quarters_of(asked.start, asked.end)
    earlier = source.database.read(store.released_over, Tier.OPEN, first, until)
    for old in earlier:
        if (old.since, old.until, old.options) != (first, until, asked.options):
            raise ConfigError(
                f"release {old.id} has sums of {iso(old.since * QUARTER_S)} to {iso(old.until * QUARTER_S)} with "
                f"{old.options}: other sums of the same time could be subtracted from them. Release the same period "
                "with the same options, or one that does not overlap"
            )
    return [dict(old.groups) for old in earlier]


def _nothing(asked: AskedRelease, homes: Homes, release: OpenRelease) -> str:
    if release.withheld:
        return "every group has changed since an earlier release of this period; nothing can be released again"
    return (
        f"no sums can be released: {len(release.homes.homes)} of {len(homes.homes)} homes have enough readings, at "
        f"least {asked.min_homes} are needed, none of them with over 15 % of what all use"
    )


def _facts(source: ReleaseSource, asked: AskedRelease, homes: Homes, release: OpenRelease) -> ReleaseFacts:
    rows = sum(len(group.rows) for group in release.sums.groups)
    return ReleaseFacts(
        id=release.id,
        town=str(source.figures.get("name", "")),
        asked=asked,
        version=code_version(),
        homes=rows,
        left_out=len(homes.homes) - rows,
        known_percent=known_percent(homes),
        attacks=release.attacks,
        errors=release.errors,
        groups=len(release.sums.groups),
        withheld=release.withheld,
    )


def _files(release: OpenRelease) -> list[DataFile]:
    sums, measures = release.sums, measures_of(Tier.OPEN)
    times = sums.start + sums.step_s * np.arange(next(iter(sums.values.values())).shape[1], dtype=np.int64)
    block = EnergyBlock(
        names=[group.name for group in sums.groups],
        times=times,
        values=[sums.values[measure] for measure in measures],
        shown=[sums.shown[measure] for measure in measures],
    )
    groups = [(group.name, group.function, len(group.rows)) for group in sums.groups]
    return [
        DataFile(stem="groups", columns=name_columns(Tier.OPEN), rows=groups),
        DataFile(stem="sums", columns=data_columns(Tier.OPEN), blocks=lambda: [block]),
    ]


STEPS_S = {Tier.OPEN: (900, 3600), Tier.HOMES: (15, 60, 300, 900, 3600)}
"""The lengths of a step that a tier may have, seconds."""

_HOUR_S = 3600


def asked_of(
    tier: Tier,
    start: EpochSeconds,
    end: EpochSeconds,
    coarsening: Coarsening,
    min_homes: int = MIN_HOMES,
    agreement: str = "",
) -> AskedRelease:
    """Return what is asked, checked."""
    for name, time in (("from", start), ("to", end)):
        if time % _HOUR_S:
            raise ConfigError(f"{name} {iso(time)}: is not on an hour")
    if end - start < _DAY_S:
        raise ConfigError(f"to {iso(end)}: less than a day after {iso(start)}")
    if coarsening.step_s is not None and coarsening.step_s not in STEPS_S[tier]:
        raise ConfigError(f"step {coarsening.step_s}: of {tier} one of {', '.join(map(str, STEPS_S[tier]))}")
    step_s = None if coarsening.step_s == QUARTER_S else coarsening.step_s
    whole = replace(coarsening, step_s=step_s)
    asked_fine = (step_s or QUARTER_S) < QUARTER_S
    is_coarse = tier is Tier.HOMES and not asked_fine
    options = {
        "noise": whole.noise_wh and not is_coarse,
        "round": whole.unit_wh and tier is Tier.OPEN,
        "sample": whole.sample_percent < 100 and tier is Tier.OPEN,
        "agreement": agreement and tier is Tier.OPEN,
        "homes": min_homes != MIN_HOMES and tier is not Tier.OPEN,
    }
    if wrong := [name for name, is_wrong in options.items() if is_wrong]:
        raise ConfigError(
            f"{wrong[0]}: not an option of {tier}{'' if is_coarse else f' in steps of {step_s} s' if step_s else ''}"
        )
    return AskedRelease(tier=tier, start=start, end=end, min_homes=min_homes, coarsening=whole, agreement=agreement)


def make_release(source: ReleaseSource, asked: AskedRelease, out: Path | None, tell: store.Tell) -> ReleaseResult:
    """Make a release; ``out`` as of ``place_of``."""
    _check_before_reading(source, asked)
    what = f"{asked.tier} {iso(asked.start)} to {iso(asked.end)} {asked.agreement}".rstrip()
    with source.database.writes.begin() as connection:
        record(connection, source.actor, source.now, "release.read", what)
    homes, meters = homes_in(source, asked, tell)
    if asked.tier is Tier.OPEN:
        return release_open(source, asked, homes, out)
    return release_homes(source, asked, homes, meters, out)


def _check_before_reading(source: ReleaseSource, asked: AskedRelease) -> None:
    """Refuse what can't be released, before a home's readings are read."""
    if asked.tier is not Tier.OPEN:
        agreement_of(source, asked)
        return
    earlier_sums(source, asked)
    waiting = source.database.read(count_fresh, *quarters_of(asked.start, asked.end))
    if waiting and asked.end <= source.now:
        raise ConfigError(
            f"{counted(waiting, 'part')} of this period are not joined yet, and would change its sums later; the "
            f"running utility joins them within {source.settings.compact_s} s: try again then"
        )


def make_apart(
    settings: UtilitySettings,
    now: EpochSeconds,
    actor: Actor,
    asked: AskedRelease,
    progress: Callable[[int, int], object],
) -> ReleaseResult:
    """Make a release in a process of its own: all homes of a period may be larger than the service's memory.

    Args:
        progress: Called at least each second with percents that are done, and 100; what it raises ends the process.
    """
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe(duplex=False)
    child = spawn.Process(target=_make, args=(theirs, settings, now, actor, asked), daemon=True)
    child.start()
    theirs.close()
    message: float | ReleaseResult | CommonwattError = 0.0
    try:
        while isinstance(message, float):
            progress(round(100 * message), 100)
            if ours.poll(1):
                message = ours.recv()
    except EOFError as error:
        raise CommonwattError("its process was ended, perhaps for want of memory; ask for a shorter period") from error
    finally:
        child.kill()
        child.join()
        ours.close()
    if isinstance(message, CommonwattError):
        raise message
    return message


def _make(to: Connection, settings: UtilitySettings, now: EpochSeconds, actor: Actor, asked: AskedRelease) -> None:
    database = open_database(settings.database, create=False, named="the utility's database")
    with suppress(BrokenPipeError):  # it was cancelled
        try:
            to.send(make_release(source_of(database, settings, now, actor), asked, None, to.send))
        except CommonwattError as error:
            to.send(CommonwattError(error.text if isinstance(error, ConfigError) else str(error)))
    database.close()
