"""A backlog after a week without the utility."""

import time
from pathlib import Path

import numpy as np

from commonwatt.codec.packing import pack
from commonwatt.demo.layout import STARTS_AT
from commonwatt.model.blocks import Blocks, Quality, empty
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S
from commonwatt.protocol.batches import unpack_batch
from gateway.changes import AppendParts, Part
from gateway.relay.relay import WINDOW
from gateway.store.store import Store
from harness.network.fates import Fate, Message
from harness.network.waiting import eventually
from harness.real.site import Site, audited

DAYS = 7
METERS = range(90_001, 90_005)
MINUTES = DAYS * 1440
TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 1\npush_share = 1.0\n' + "".join(
    f'[[meter]]\nmicrogrid = "r001"\nid = {meter}\n' for meter in METERS
)
LIVE = STARTS_AT // QUARTER_S
"""The first quarter after the week."""

UPLINK_BYTES_PER_S = 60_000


def a_week() -> Blocks:
    """Return the parts of four meters of a week, one a minute, as a gateway stores them."""
    count = len(METERS) * MINUTES
    minute = np.repeat(np.arange(MINUTES), len(METERS))
    slots = (minute % 15 * 4)[:, None] + np.arange(4)
    values, quality = np.zeros((count, 60), np.int64), np.zeros((count, 60), np.uint8)
    rows = np.arange(count)[:, None]
    values[rows, slots] = np.random.default_rng(11).integers(0, 20_000, (count, 4))
    quality[rows, slots] = Quality.EXACT
    return Blocks(
        meter=np.tile(np.array(METERS, np.uint64), MINUTES),
        record_type=np.full(count, RecordType.THROUGH, np.uint8),
        quarter=(LIVE - DAYS * 96 + minute // 15).astype(np.uint32),
        values=values,
        quality=quality,
        extras=empty().extras,
    )


def keep(site: Site, week: Blocks) -> None:
    """Put the week into the gateway's store."""
    store = Store.open(site.folder / "r001" / "gateway.db")
    parts = tuple(Part(0, key, payload) for key, payload in zip(week.keys(), pack(week), strict=True))
    store.commit([AppendParts(parts)])
    store.close()


class Uplink:
    """The gateway's messages, in order."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, int, int]]] = []

    def judge(self, message: Message) -> Fate:
        """Record a batch that is not empty, and forward it."""
        if message.leaf == "batch" and (keys := unpack_batch(message.payload).keys):
            self.batches.append(list(keys))
        return Fate.PASS

    def with_live_data(self) -> list[int]:
        """Return the positions of batches with data newer than the week."""
        return [place for place, keys in enumerate(self.batches) if any(quarter >= LIVE for _, _, quarter in keys)]

    def with_backlog(self) -> list[int]:
        """Return the positions of batches with data of the week."""
        return [place for place, keys in enumerate(self.batches) if any(quarter < LIVE for _, _, quarter in keys)]


def backlog(site: Site) -> int:
    return int((site.status("r001 gateway") or {"backlog": {"parts": -1}})["backlog"]["parts"])


def totals(site: Site) -> dict[int, int]:
    """Return the utility's sum for each meter of the week, milliwatt-hours."""
    blocks = site.dump()
    return {meter: int(blocks.values[blocks.meter == meter].sum()) for meter in METERS}


def test_row_11_after_a_week_away_live_data_comes_first_and_the_backlog_drains(tmp_path: Path) -> None:
    uplink, week = Uplink(), a_week()
    with Site(tmp_path / "site", TOWN) as site:
        keep(site, week)
        line = site.proxy("r001 gateway", "head_end", uplink.judge)
        line.bytes_per_s = UPLINK_BYTES_PER_S
        site.start("head-end", "r001 broker", "r001 gateway", "r001 meters")
        eventually(lambda: backlog(site) > len(week) + 20)
        uplink.batches.clear()
        started = time.monotonic()
        site.start("utility")
        eventually(lambda: uplink.with_backlog() and backlog(site) < 100, 120)
        print(f"{len(week)} parts in {len(uplink.batches)} batches within {time.monotonic() - started:.1f} s")
        live, old = uplink.with_live_data(), uplink.with_backlog()
        assert live[0] < WINDOW, "only batches in flight may come before it"
        assert len([place for place in live if place < old[-1]]) >= 3, "live data continues while the backlog drains"
        oldest = min(quarter for place in old for _, _, quarter in uplink.batches[place])
        assert not any(quarter == oldest for place in old[: len(old) // 2] for _, _, quarter in uplink.batches[place])
        site.stop("r001 meters")
        eventually(lambda: backlog(site) == 0)
        assert totals(site) == {meter: int(week.values[week.meter == meter].sum()) for meter in METERS}
        audit = audited(site.folder)
        assert audit.good, audit
        assert audit.foreign_slots == len(METERS) * MINUTES * 4
