"""A backlog after a week without the utility."""

import time
from pathlib import Path

from commonwatt.protocol.batches import unpack_batch
from gateway.relay.outbox import WINDOW
from harness.network.proxy import Fate, Message
from harness.network.waiting import eventually
from harness.real.kept import LIVE, METERS, TOWN, keep, parts_of
from harness.real.site import Site, sound

DAYS = 7
MINUTES = DAYS * 1440

UPLINK_BYTES_PER_S = 60_000


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
    uplink, week = Uplink(), parts_of(MINUTES)
    with Site(tmp_path / "site", TOWN) as site:
        keep(site.folder / "r001" / "gateway.db", week)
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
        audit = sound(site.folder)
        assert audit.foreign_slots == len(METERS) * MINUTES * 4
