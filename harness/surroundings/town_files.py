"""Folders of towns for analysis: months of settled days by the real exporter, an open release."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from commonwatt.model.time.times import parse_time
from commonwatt.town.file import TownFile
from commonwatt.town.loading import town_of
from harness.statistics.stored import random_day, settle
from utility.database.database import open_database
from utility.exports.store.exports import Asked, settled_export
from utility.exports.store.files import write_files
from utility.exports.writers import Format
from utility.jobs.calendar_periods import NEW_YORK
from utility.registry.store.registration import fill_registry
from utility.research.documents import Column as ReleaseColumn
from utility.research.documents import Facts, name_columns
from utility.research.jobs.files import DataFile, write_release
from utility.research.release import Asked as AskedRelease
from utility.research.release import Tier
from utility.settlement.store.settlement_members import owners

LATER = 10**10  # a time at which every month is final


def make_exports(folder: Path, microgrids: int, seed: int, months: tuple[str, ...] = ("2026-10", "2026-11")) -> None:
    """Settle random days of a town of houses, five a microgrid, and export each month as the job does.

    Only the first three days of a month are settled, to keep tests short.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = {"microgrid": [{"id": "r", "kind": "residential", "count": microgrids, "houses": 5}]}
    town = town_of(TownFile.model_validate(file), Path("town.toml"))
    with closing(open_database(f"sqlite:///{folder}/town.db", create=True)) as database:
        with database.writes.begin() as connection:
            fill_registry(connection, town)
            members = list(owners(connection).values())
        for month in months:
            year, number = map(int, month.split("-"))
            start = parse_time(month, "", NEW_YORK)
            end = parse_time(f"{year + number // 12}-{number % 12 + 1:02}", "", NEW_YORK)
            for day in range(start // 86_400 + 1, start // 86_400 + 4):
                settle(database, members, random_day(members, day, seed, lost=0.01))
            out = folder / "exports" / f"settled-{month}"
            write_files(settled_export(database, Asked(start=start, end=end)), Format.PARQUET, out, LATER)


def make_release(folder: Path, release: str, tier: Tier, rows: Mapping[str, list[tuple[object, ...]]]) -> None:
    """Write a release with some rows of each of its files."""
    place = folder / "releases" / release
    place.mkdir(parents=True)
    asked = AskedRelease(tier=tier, start=0, end=900, agreement="" if tier is Tier.OPEN else "university")
    facts = Facts(
        id=release, town="town", asked=asked, version="0", homes=1, left_out=0, known_percent=100.0, attacks=(), until=1
    )
    columns = {
        "groups": name_columns(Tier.OPEN),
        "homes": name_columns(Tier.HOMES),
        **{
            stem: [
                ReleaseColumn(name=name, kind="string", meaning="")
                for name in (who, "start", "used_wh", "generated_wh")
            ]
            for stem, who in (("sums", "group"), ("readings", "home"))
        },
    }
    write_release(place, facts, [DataFile(stem=stem, columns=columns[stem], rows=some) for stem, some in rows.items()])


def towns_table(file: Path, folders: Mapping[str, Path]) -> Path:
    """Write the table of the towns."""
    lines = [
        f'[towns.{name}]\ndatabase = "postgresql+psycopg:///{name}"\nfiles = "{folder}"\n'
        for name, folder in folders.items()
    ]
    file.write_text("\n".join(lines))
    return file
