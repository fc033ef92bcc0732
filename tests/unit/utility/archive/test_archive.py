"""Months of readings in files: every answer is as before, late readings join, and damage is named."""

import json
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, true

from commonwatt.model.blocks import Blocks, concatenate, join, make_blocks
from commonwatt.model.units import QUARTER_S
from commonwatt.runtime.clock import Clock
from harness.network.application import Client
from harness.real import databases
from harness.real.jobs import compact, find_gaps
from harness.worlds.sent import append, blocks
from utility.archive.store import archive as archiving
from utility.archive.store import months as of
from utility.archive.store.archive import Archive
from utility.archive.store.months import month_at, months
from utility.assembly.application import make_app
from utility.assembly.metrics import UtilityMetrics
from utility.database.database import Database
from utility.database.health import Health
from utility.database.postgres.partitions import first_quarter, partitions
from utility.jobs.tables import settlement_due
from utility.readings.store import archived, completeness, reads
from utility.readings.store.archived import ArchiveError
from utility.readings.store.conflicts import conflicts
from utility.readings.store.dead_letters import dead_letters
from utility.readings.store.parts import PartReader, select_parts
from utility.readings.store.retention import Retention
from utility.readings.store.writer import Writer
from utility.readings.tables import compacted, gap, part
from utility.webkit.services import Api

kind = databases.both_kinds

OLD, NEXT = first_quarter((2026, 11)), first_quarter((2026, 12))
QUARTERS = [OLD + at for at in (0, 1, 23, 24, 100, 2000)] + [NEXT, NEXT + 96]
NOW = (NEXT + 96 * 40) * QUARTER_S
METERS = (10001, 10003)


def some(rng: random.Random, quarter: int, meter: int, kind: int) -> Blocks:
    """Return a block with missing and averaged slots."""
    quality = [rng.choice((0, 1, 2, 2, 2)) for _ in range(60)]
    values = [rng.randrange(-(2**40), 2**40) if of else 0 for of in quality]
    return make_blocks([(meter, kind, quarter)], [values], [quality])


def stored(database: Database, seed: int = 1) -> None:
    """Store readings of two meters, whole, partial, and with conflicts."""
    rng = random.Random(seed)
    given = [some(rng, quarter, meter, 3) for quarter in QUARTERS for meter in METERS]
    writer = Writer(database)
    writer.commit([append(each) for each in given])
    # Of several controllers, with a second value.
    writer.commit(
        [append(blocks({0: 7}, quarter=QUARTERS[1])), append(blocks({0: 9}, quarter=QUARTERS[1]), sender="r002")]
    )
    compact(database, NOW)
    settle(database)


def settle(database: Database) -> None:
    with database.writes.begin() as connection:
        connection.execute(settlement_due.delete())


def everything(database: Database) -> dict[str, Any]:
    """Return what people and programs read."""
    found = join([concatenate([*reads.all_blocks(database, 0, 2**31 - 1)])])
    with database.reads.begin() as connection:
        counts = reads.status(connection)
    return {
        "blocks": [
            (key, found.values[at].tolist(), found.quality[at].tolist(), found.extras_of(at))
            for at, key in enumerate(found.keys())
        ],
        "one": reads.readings(database, 1, 3, OLD, OLD + 200).values.tolist(),
        "complete": [(each.meter, vars(each.counts)) for each in completeness.completeness(database, OLD, NEXT + 97)],
        "slots": completeness.stored_slots(database, OLD, NEXT + 97),
        "conflicts": sorted(map(json.dumps, conflicts(database, 1000))),
        "status": {name: each["conflicts"] for name, each in counts.items()},
    }


def archive(database: Database, folder: Path, **how: Any) -> Archive:
    (folder / "archive").mkdir(exist_ok=True)
    return Archive(database, folder / "archive", NOW, **how)


def rows(database: Database, table: Any = compacted) -> int:
    with database.reads.begin() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def test_all_that_is_read_is_the_same_after_a_month_went_to_its_file(
    database: Database, tmp_path: Path, kind: str
) -> None:
    stored(database)
    before, count = everything(database), rows(database)
    archive(database, tmp_path).run(NEXT)
    assert everything(database) == before
    # What has conflicts stays, and December.
    assert rows(database) == 1 + 2 * len(METERS) < count
    file = tmp_path / "archive" / "blocks-2026-11.parquet"
    assert file.stat().st_mode & 0o777 == 0o600
    with database.reads.begin() as connection:
        (month,) = months(connection)
        assert (month.state, month.rows, month.trouble) == ("archived", count - 2 * len(METERS), "")
        if kind == "postgresql":
            assert (2026, 11) in partitions(connection)


class Killed(BaseException):
    """The process ended here."""


def killing(after: int) -> Callable[[str], None]:
    """Return a hook that ends the run at its step ``after``."""
    left = iter(range(after, -1, -1))

    def reached(_: str) -> None:
        if next(left) == 0:
            raise Killed

    return reached


def kept(database: Database) -> tuple[list[Any], list[str]]:
    """Return all readings, and all conflicts."""
    found = join([concatenate([each for quarter in QUARTERS for each in reads.all_blocks(database, quarter, quarter)])])
    blocks = [
        (key, found.values[at].tolist(), found.quality[at].tolist(), found.extras_of(at))
        for at, key in enumerate(found.keys())
    ]
    return blocks, sorted(map(json.dumps, conflicts(database, 1000)))


def test_fifty_kills_at_every_step_lose_nothing(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a month that comes back, and while late readings arrive."""
    monkeypatch.setattr(archiving, "MAX_BLOCKS", 2)
    monkeypatch.setattr(archiving, "_SNAPSHOT_WAITS", 1)
    stored(database)
    rng, killed, steps = random.Random(3), 0, set()
    while killed < 50:
        before = kept(database)
        try:
            hook = killing(rng.randrange(12))

            def reached(step: str, hook: Callable[[str], None] = hook) -> None:
                steps.add(step)
                hook(step)

            one = archive(database, tmp_path, reached=reached)
            with database.reads.begin() as connection:
                month = month_at(connection, OLD)
            if month is not None and month.state == "archived":
                one.restore(OLD)
            else:
                one.write_month(OLD)
        except Killed:
            killed += 1
        except ArchiveError:
            pass  # Late readings came between two kills: the month is written again.
        assert kept(database) == before
        if rng.random() < 0.2:
            Writer(database).commit([append(some(rng, rng.choice(QUARTERS), rng.choice(METERS), 3))])
            before = kept(database)
            compact(database, NOW)
            after = kept(database)
            # Conflicts are listed once parts are joined.
            assert after[0] == before[0]  # Conflicts are listed once parts are joined.
    assert steps >= {"begun", "file", "compared", "written", "leaving", "archived", "restoring", "restored", "recorded"}
    with suppress(ArchiveError):
        archive(database, tmp_path).run(NEXT)
    archive(database, tmp_path).run(NEXT)
    with database.reads.begin() as connection:
        month = month_at(connection, OLD)
    assert month is not None
    assert month.state in ("archived", "restored")


def test_late_readings_of_a_month_in_a_file_join_its_blocks(database: Database, tmp_path: Path) -> None:
    stored(database)
    archive(database, tmp_path).run(NEXT)
    empty = [at for at, of in enumerate(reads.readings(database, 1, 3, QUARTERS[0], QUARTERS[0]).quality[0]) if of == 0]
    late = blocks({empty[0]: 77}, quarter=QUARTERS[0])
    expected = join([concatenate([*reads.all_blocks(database, 0, 2**31 - 1), late])])
    count = rows(database)
    Writer(database).commit([append(late)])
    for _ in range(2):
        found = join([concatenate([*reads.all_blocks(database, 0, 2**31 - 1)])])
        assert (found.keys().meter == expected.keys().meter).all()
        assert found.values.tolist() == expected.values.tolist()
        assert found.quality.tolist() == expected.quality.tolist()
        compact(database, NOW)
    assert (rows(database), rows(database, part)) == (count + 1, 0)
    with database.reads.begin() as connection:
        exact, averaged = archived.execute(
            connection,
            select(func.sum(compacted.c.exact), func.sum(compacted.c.averaged)),
        ).one()
    assert (exact, averaged) == ((found.quality == 2).sum(), (found.quality == 1).sum())


def test_a_month_that_changes_before_its_blocks_go_is_written_again(
    database: Database, tmp_path: Path, kind: str
) -> None:
    stored(database)

    def late(step: str) -> None:
        if step == "compared":
            Writer(database).commit([append(blocks({3: 1, 4: 2}, quarter=OLD + 50))])
            compact(database, NOW)
            settle(database)

    with pytest.raises(ArchiveError, match="written again"):
        archive(database, tmp_path, reached=late).run(NEXT)
    before = everything(database)
    archive(database, tmp_path).run(NEXT)
    assert everything(database) == before
    assert (OLD + 50, 60) in {(key[2], len(values)) for key, values, *_ in before["blocks"]}


def test_blocks_that_change_while_others_go_stay(database: Database, tmp_path: Path, kind: str) -> None:
    stored(database)

    def late(step: str) -> None:
        if step == "leaving":
            Writer(database).commit([append(blocks({3: 1, 4: 2}, quarter=QUARTERS[0]), sender="r002")])
            compact(database, NOW)

    once = archive(database, tmp_path, reached=late)
    if kind == "postgresql":
        with pytest.raises(ArchiveError, match="written again"):
            once.run(NEXT)
    else:
        once.run(NEXT)
    before = everything(database)
    archive(database, tmp_path).run(NEXT)
    assert everything(database) == before


def test_a_flipped_bit_is_named_with_its_file_and_block_and_its_readings_are_asked_for(
    database: Database, tmp_path: Path
) -> None:
    stored(database)
    one = archive(database, tmp_path)
    one.run(NEXT)
    with database.reads.begin() as connection:
        month = month_at(connection, OLD)
        assert month is not None
        file = archived.File.open(month.file)
        payload = archived.read_group(file, 0, ("payload",))["payload"].to_pylist()[0]
    content = bytearray(month.file.read_bytes())
    content[content.index(payload) + 5] ^= 4
    month.file.write_bytes(content)
    words = f"the block of meter 10001, type 3, quarter {QUARTERS[0]} is damaged"
    assert one.check(month) == words
    find_gaps(database, NOW)
    found = join([concatenate([*reads.all_blocks(database, 0, 2**31 - 1)])])
    assert (10001, 3, QUARTERS[0]) not in set(found.keys())
    assert len(found) == 2 * len(QUARTERS) - 1
    with database.reads.begin() as connection:
        assert of.troubles(connection) == [f"{month.path}: {words}"]
        (asked,) = connection.execute(
            select(gap.c.mask).where(gap.c.quarter == QUARTERS[0], gap.c.meter_no == 1)
        ).scalars()
        assert asked == 2**60 - 1
    for _ in range(2):
        reads.readings(database, 1, 3, OLD, OLD + 1)
    with database.reads.begin() as connection:
        assert len(dead_letters(connection, 10)) == 1


def test_a_bit_flipped_at_the_end_of_a_file_is_an_error_and_not_the_end_of_the_process(
    database: Database, tmp_path: Path
) -> None:
    stored(database)
    archive(database, tmp_path).run(NEXT)
    with database.reads.begin() as connection:
        month = month_at(connection, OLD)
    assert month is not None
    content = month.file.read_bytes()
    footer = int.from_bytes(content[-8:-4], "little") + 8
    for at in range(len(content) - footer, len(content), 23):
        (damaged := tmp_path / f"{at}.parquet").write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        with pytest.raises(ArchiveError, match="its end is not as it was written"):
            archived.File.open(damaged)


def test_a_month_comes_back_and_goes_again_when_asked(database: Database, tmp_path: Path) -> None:
    stored(database)
    before, count = everything(database), rows(database)
    one = archive(database, tmp_path)
    one.run(NEXT)
    one.restore(OLD)
    assert (everything(database), rows(database)) == (before, count)
    assert not list((tmp_path / "archive").glob("*.parquet"))
    one.run(NEXT)
    assert rows(database) == count
    one.write_month(OLD)
    assert (everything(database), rows(database) < count) == (before, True)


def test_after_a_restore_of_the_database_the_file_is_checked_and_set_aside(database: Database, tmp_path: Path) -> None:
    stored(database)
    before = everything(database)
    one = archive(database, tmp_path)
    one.run(NEXT)
    kept = (tmp_path / "archive" / "blocks-2026-11.parquet").read_bytes()
    one.restore(OLD)
    with database.writes.begin() as connection:
        of.forget(connection, OLD)
    (tmp_path / "archive" / "blocks-2026-11.parquet").write_bytes(kept)
    said = one.run(NEXT)
    assert "blocks-2026-11.parquet is not recorded, and was set aside: " in said[0]
    assert "all sound" in said[0]
    assert [path.read_bytes() for path in (tmp_path / "archive").glob("*.aside-*")] == [kept]
    assert everything(database) == before


def test_a_file_whose_row_was_lost_is_recorded_again(database: Database, tmp_path: Path) -> None:
    stored(database)
    before = everything(database)
    one = archive(database, tmp_path)
    one.run(NEXT)
    with database.writes.begin() as connection:
        of.forget(connection, OLD)
    assert "the database lacks its month" in one.run(NEXT)[0]
    assert everything(database) == before
    with database.reads.begin() as connection:
        (month,) = months(connection)
    assert one.check(month) == ""


def test_a_missing_file_is_named_and_one_in_a_moved_folder_is_found(database: Database, tmp_path: Path) -> None:
    stored(database)
    before = everything(database)
    archive(database, tmp_path).run(NEXT)
    file = tmp_path / "archive" / "blocks-2026-11.parquet"
    (tmp_path / "elsewhere" / "archive").mkdir(parents=True)
    moved = file.rename(tmp_path / "elsewhere" / "archive" / file.name)
    with pytest.raises(ArchiveError, match="has none of its 1 files"):
        archive(database, tmp_path).run(NEXT)
    with database.reads.begin() as connection:
        assert of.troubles(connection) == [f"{file}: is missing"]
    with pytest.raises(ArchiveError, match="No such file"):
        everything(database)
    assert len(reads.readings(database, 1, 3, NEXT, NEXT)) == 1
    clock = Clock(origin=NOW, monotonic_origin=0, speed=0)
    client = Client(make_app(Api(database, clock, UtilityMetrics(), lambda: False, lambda: "", {}, Health(None))))
    answer = client.get("/readings", {"meter": "10001", "start": OLD * QUARTER_S, "end": (OLD + 1) * QUARTER_S})
    assert (answer.status_code, "in a file" in answer.text, "2026-11" in answer.text) == (503, True, False)
    archive(database, tmp_path / "elsewhere").run(NEXT)
    with database.reads.begin() as connection:
        assert (of.troubles(connection), [month.path for month in months(connection)]) == ([], [str(moved)])
    assert everything(database) == before


def test_files_go_when_their_months_are_no_longer_kept(database: Database, tmp_path: Path) -> None:
    stored(database)
    archive(database, tmp_path).run(NEXT)
    retaining = Retention(database, 1)
    assert retaining.plan(NOW) == OLD
    while retaining.apply(NEXT):
        pass
    archive(database, tmp_path).run(NEXT)
    assert not list((tmp_path / "archive").glob("*.parquet"))
    assert {key[2] for key, *_ in everything(database)["blocks"]} == set(QUARTERS[-2:])


def test_a_month_that_is_not_settled_stays(database: Database) -> None:
    stored(database)
    assert Retention(database, 1).plan(NOW) == OLD


def test_a_reader_of_an_earlier_state_finds_the_month_and_a_server_waits_for_it(
    database: Database, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiving, "_SNAPSHOT_WAITS", 1)
    stored(database)
    before, count = kept(database), rows(database)
    reader = PartReader(database)
    with database.reads.begin() as connection:
        connection.execute(select(func.count()).select_from(gap)).all()  # From here on it reads this state.
        said = archive(database, tmp_path).run(NEXT)
        assert ("is being read" in said[0]) == (kind == "postgresql")
        found = reader.read(connection, select_parts(lambda _: true()), quarters=range(OLD, NEXT))
        assert len(found) == count
    if kind == "postgresql":
        assert rows(database) == count
        archive(database, tmp_path).run(NEXT)
    assert rows(database) < count
    assert kept(database) == before
