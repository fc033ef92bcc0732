"""Row 5 of the faults while the service runs: its database is damaged, and no acknowledged data is lost."""

import sqlite3
import urllib.error
import urllib.request
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

from commonwatt.model.units import QUARTER_S
from harness.network.waiting import eventually
from harness.real import forks
from harness.real.site import Site, sound

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 4\npush_share = 1.0\n'
GATEWAY = "r001 gateway"
PAGE = 4096
LEAF = 13  # what the first byte of a page says in which rows of a table are
Place = tuple[str, int, int]  # a meter's id, the record type and the quarter of a block


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


def spoil(store: Path, place: Place, *, page_kind: bool) -> None:
    """Flip a bit of the block in the database file, not in its log: in its payload, or in its page's type."""
    with suppress(sqlite3.DatabaseError):  # it is damaged already
        payload = joined_blocks(store).get(place)
        with closing(sqlite3.connect(store)) as db:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        content = store.read_bytes()
        for page in range(0, len(content), PAGE):
            if payload and content[page] == LEAF and payload in content[page : page + PAGE]:
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


def test_row_05_a_database_that_rots_under_a_running_utility_is_noticed_and_recovered(tmp_path: Path) -> None:
    with Site(tmp_path / "town", TOWN, speed=300) as site:
        site.start("head-end", "r001 broker", "utility", GATEWAY, "r001 meters")
        part = site.layout.part("utility")
        store = part.config.parent / "utility.db"
        eventually(lambda: len(joined_blocks(store)) >= 24)
        wrong, unreadable, *_ = joined_blocks(store)

        before = readings(site, wrong)
        assert before

        def is_quarantined() -> bool:
            spoil(store, wrong, page_kind=False)
            told = readings(site, wrong)
            assert told is not None
            values = dict(before)
            assert all(values.get(slot, value) == value for slot, value in told), "no wrong value may be shown"
            return site.metric("utility", "commonwatt_utility_damaged_parts_total") >= 1

        eventually(is_quarantined)
        eventually(lambda: (readings(site, wrong) or set()) >= before)  # requested from its gateway again
        eventually(lambda: status(site)["alarms"] == [])

        def can_not_be_read() -> bool:
            spoil(store, unreadable, page_kind=True)
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
        sound(tmp_path / "town")
