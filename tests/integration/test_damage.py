"""Row 5 of the faults on real processes: the utility's database rots while it runs, or is damaged while it is off."""

import signal
import sqlite3
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from commonwatt.model.units import QUARTER_S
from commonwatt.sqlite import quarantined_before
from harness.network.waiting import eventually
from harness.real import forks
from harness.real.site import Site, audited, sound

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 4\npush_share = 1.0\n'
GATEWAY = "r001 gateway"
PAGE = 4096
LEAF = 13  # what the first byte of a page says in which rows of a table are
Place = tuple[str, int, int]  # a meter's id, the record type and the quarter of a block


PARTS = ("head-end", "r001 broker", "utility", GATEWAY, "r001 meters")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("damage") / "town", TOWN, speed=300) as site:
        yield site


@pytest.fixture
def site(running: Site) -> Site:
    """The town with all of its parts running, after any earlier test."""
    running.start(*(name for name in PARTS if name not in running.processes))
    return running


def damage(store: Path, at: int = 2048) -> None:
    """Damage the schema, without which SQLite can't read the file."""
    with store.open("r+b") as file:
        file.seek(at)
        file.write(bytes(64))


def flip(file: Path, at: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)[0]
        opened.seek(at)
        opened.write(bytes([byte ^ 1]))


def joined_blocks(store: Path) -> dict[Place, bytes]:
    """Return the payloads of finished quarters, oldest first."""
    with closing(sqlite3.connect(store)) as db:
        rows = db.execute(
            "SELECT m.label, c.record_type, c.quarter, c.payload"
            " FROM compacted AS c JOIN meter AS m ON m.no = c.meter_no ORDER BY c.rowid"
        )
        return {(meter, kind, quarter): payload for meter, kind, quarter, payload in rows}


@contextmanager
def paused(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Pause a process: it moves no page between a look at the file and a change of it."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def spoil(site: Site, store: Path, payload: bytes, *, page_kind: bool) -> None:
    """Flip a bit of the block in the database file, not in its log: in its payload, or in its page's type.

    The sound payload is looked for, so a second call never repairs what the first one damaged.
    """
    with paused(site.processes["utility"]), suppress(sqlite3.DatabaseError):  # it is damaged already
        with closing(sqlite3.connect(store)) as db:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        content = store.read_bytes()
        for page in range(0, len(content), PAGE):
            if content[page] == LEAF and payload in content[page : page + PAGE]:
                flip(store, page if page_kind else content.index(payload, page) + 20)


def readings(site: Site, place: Place) -> set[tuple[int, int]] | None:
    """Ask the running utility for a block's slots and values; ``None``: it can't read it."""
    meter, kind, quarter = place
    asked = f"meter={meter}&type={kind}&start={quarter * QUARTER_S}&end={(quarter + 1) * QUARTER_S}"
    try:
        return {(slot, value) for slot, value, _ in site.ask("utility", f"/readings?{asked}", 20)["readings"]}
    except urllib.error.HTTPError as error:
        if error.code != 503:
            raise
        return None


def status(site: Site) -> dict[str, Any]:
    told = site.status("utility")
    assert told is not None
    return told


def test_row_05_a_database_that_rots_under_a_running_utility_is_noticed_and_recovered(site: Site) -> None:
    part = site.layout.part("utility")
    store = part.config.parent / "utility.db"
    eventually(lambda: len(joined_blocks(store)) >= 24)
    sound_blocks = joined_blocks(store)
    wrong, unreadable, *_ = sound_blocks

    before = readings(site, wrong)
    assert before

    def is_quarantined() -> bool:
        spoil(site, store, sound_blocks[wrong], page_kind=False)
        told = readings(site, wrong)
        assert told is not None
        values = dict(before)
        assert all(values.get(slot, value) == value for slot, value in told), "no wrong value may be shown"
        return site.metric("utility", "commonwatt_utility_damaged_parts_total") >= 1

    eventually(is_quarantined)
    eventually(lambda: (readings(site, wrong) or set()) >= before, 600)  # requested from its gateway again
    eventually(lambda: status(site)["alarms"] == [])

    def can_not_be_read() -> bool:
        spoil(site, store, sound_blocks[unreadable], page_kind=True)
        return readings(site, unreadable) is None

    eventually(can_not_be_read)
    eventually(lambda: status(site)["alarms"] == ["store_damaged"])
    taken = partial(site.metric, "utility", "commonwatt_utility_batches_total")
    ignored = partial(site.metric, "utility", 'commonwatt_utility_messages_total{result="store_damaged"}')
    eventually(ignored)  # data in transit is stored by then
    had, before_that = taken(), ignored()
    eventually(lambda: ignored() >= before_that + 3)
    assert taken() == had, "acknowledgements must have ended"
    assert "stop the service, then run: commonwatt utility recover" in site.log("utility")

    site.stop("utility")
    recovery = [*part.command[:-3], "recover", "--config", str(part.config)]
    done = forks.run(recovery, timeout=60)
    assert done.returncode == 0, done.stderr
    site.start("utility")
    eventually(lambda: taken() >= 2)
    site.stop("r001 meters")
    # What could not be recovered is requested from the gateway again.
    eventually(lambda: audited(site.folder).good)


def test_row_05_a_damaged_utility_refuses_to_start_and_is_refilled_after_its_recovery(site: Site) -> None:
    eventually(lambda: site.metric("utility", "commonwatt_utility_batches_total") >= 3)
    site.stop("utility")
    part = site.layout.part("utility")
    store = part.config.parent / "utility.db"
    damage(store, 100)
    earlier = set(quarantined_before(store))
    before = store.read_bytes()
    refused = forks.run(part.command, timeout=60)
    assert refused.returncode == 1
    assert "the utility's database is damaged" in refused.stderr
    assert "commonwatt utility recover --config" in refused.stderr
    assert store.read_bytes() == before, "the file must be unchanged"
    command = [*part.command[:-3], "recover", "--config", str(part.config)]
    done = forks.run(command, timeout=60)
    assert done.returncode == 0, done.stderr
    (quarantined,) = set(quarantined_before(store)) - earlier
    assert str(quarantined) in done.stdout.replace("\n", "")
    # Even if no row were recovered, the backups would restore all data.
    with sqlite3.connect(store) as db:
        for table in ("batch", "part", "compacted"):
            db.execute(f"DELETE FROM {table}")
    db.close()
    site.start("utility")
    eventually(lambda: site.metric("utility", "commonwatt_utility_batches_total") >= 2)
    site.stop("r001 meters")
    sound(site.folder)
