"""Makes open releases: sums of groups of homes."""

from pathlib import Path

import numpy as np

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.times import iso
from commonwatt.model.units import QUARTER_S
from utility.research import store as store
from utility.research.documents import Facts, data_columns, measures_of, name_columns
from utility.research.homes import Homes, quarters_of
from utility.research.jobs.files import Block, DataFile, new_folder, write_release
from utility.research.jobs.source import Result, Source, code_version, keep, place_of
from utility.research.release import Asked, OpenRelease, Tier, is_above, known_percent, open_release


def release_open(source: Source, asked: Asked, homes: Homes, out: Path | None) -> Result:
    """Write an open release, or keep it until a second person approves it.

    Raises:
        ConfigError: It can't be released as asked; says what to do.
    """
    earlier = earlier_sums(source, asked)
    made = open_release(asked, homes, earlier, source.zone, source.secret, code_version())
    if not made.sums.groups:
        raise ConfigError(_nothing(asked, homes, made))
    facts = _facts(source, asked, homes, made)
    kept = source.database.read(store.find_release, made.id)
    is_free = not is_above(made.attacks, source.settings.research.limit_percent)
    is_free |= kept is not None and kept.state in ("approved", "released")
    place = place_of(source, out, made.id)
    if is_free and out is None and place.exists():
        return Result(facts=facts, written=True, out=place)  # the same id has the same bytes
    if is_free:
        with new_folder(place) as folder:
            write_release(folder, facts, _files(made))
            keep(source, facts, "released", made.digests, earlier)
    else:
        keep(source, facts, "waiting", made.digests)
    return Result(facts=facts, written=is_free, out=place)


def earlier_sums(source: Source, asked: Asked) -> list[dict[str, str]]:
    """Return the digests of the groups in earlier releases of the same sums."""
    first, until = quarters_of(asked.start, asked.end)
    found = source.database.read(store.released_over, Tier.OPEN, first, until)
    for one in found:
        if (one.since, one.until, one.options) != (first, until, asked.options):
            raise ConfigError(
                f"release {one.id} has sums of {iso(one.since * QUARTER_S)} to {iso(one.until * QUARTER_S)} with "
                f"{one.options}: other sums of the same time could be subtracted from them. Release the same period "
                "with the same options, or one that does not overlap"
            )
    return [dict(one.groups) for one in found]


def _nothing(asked: Asked, homes: Homes, made: OpenRelease) -> str:
    if made.withheld:
        return "every group has changed since an earlier release of this period; nothing can be released again"
    return (
        f"no sums can be released: {len(made.homes.homes)} of {len(homes.homes)} homes have enough readings, at least "
        f"{asked.min_homes} are needed, none of them with over 15 % of what all use"
    )


def _facts(source: Source, asked: Asked, homes: Homes, made: OpenRelease) -> Facts:
    rows = sum(len(group.rows) for group in made.sums.groups)
    return Facts(
        id=made.id,
        town=str(source.figures.get("name", "")),
        asked=asked,
        version=code_version(),
        homes=rows,
        left_out=len(homes.homes) - rows,
        known_percent=known_percent(homes),
        attacks=made.attacks,
        errors=made.errors,
        groups=len(made.sums.groups),
        withheld=made.withheld,
    )


def _files(made: OpenRelease) -> list[DataFile]:
    sums, measures = made.sums, measures_of(Tier.OPEN)
    times = sums.start + sums.step_s * np.arange(next(iter(sums.values.values())).shape[1], dtype=np.int64)
    block = Block(
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
