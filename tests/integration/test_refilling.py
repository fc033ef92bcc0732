"""At a month's end the utility loses its database: the gateways refill it, and the progress shown is near the truth."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby, pairwise, product
from pathlib import Path

import numpy as np
import pytest

from commonwatt.audit.folder import PAST
from commonwatt.codec.packing import pack
from commonwatt.model.blocks import Keys, Quality, make_blocks
from commonwatt.model.units import QUARTER_S, SLOTS
from gateway.store.changes import AVERAGED, DONE, AppendParts, Part
from gateway.store.store import Store
from harness.network.waiting import eventually
from harness.real.site import Site, audited
from utility.readings.columns import Refilling

MICROGRIDS = {"r001": "residential", "r002": "residential", "p001": "public"}
TOWN = "".join(f'[[microgrid]]\nid = "{name}"\nkind = "{kind}"\n' for name, kind in MICROGRIDS.items()).replace(
    '"residential"\n', '"residential"\nhouses = 1\n'
)
PARTS = ("head-end", "utility", *(f"{name} {part}" for name, part in product(MICROGRIDS, ("broker", "gateway"))))
METERS = [f"{name} meters" for name in MICROGRIDS]
MONTHS_END = 1_782_856_800  # 30 June 2026, 18:00 in Centertown
THREE_MONTHS = 90 * 96  # quarters
ACKNOWLEDGED = 'commonwatt_gateway_batches_total{result="acknowledged"}'
PATIENT_S = 400.0  # real seconds for the refill on a busy machine
SERIES = 5  # series of the public microgrid with three months
FULL = "p001"  # the public microgrid, which refills first


@dataclass(frozen=True)
class Look:
    """One look at the progress."""

    least: int  # parts that the utility had acknowledged before it was asked
    shown: Refilling  # the line of the list
    most: int  # parts that it had acknowledged afterwards


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr("commonwatt.demo.layout.STARTS_AT", MONTHS_END)
    with Site(tmp_path / "site", TOWN, speed=25) as site:
        yield site


def fill(site: Site) -> int:
    """Give the gateway of the public microgrid three months that the lost database had; return its parts."""
    meters = site.layout.town.microgrids[FULL].meters
    series = [(meter.id, int(kind)) for meter in meters for kind in meter.record_types][:SERIES]
    quarters = np.arange(MONTHS_END // QUARTER_S - THREE_MONTHS, MONTHS_END // QUARTER_S, dtype=np.uint32)
    meter, kind = (np.repeat(np.array(each), THREE_MONTHS) for each in zip(*series, strict=True))
    keys = Keys(meter.astype(np.uint64), kind.astype(np.uint8), np.tile(quarters, SERIES))
    values = np.random.default_rng(1).integers(1000, 2000, (len(keys), SLOTS))
    payloads = pack(make_blocks(keys, values, np.full(values.shape, Quality.EXACT)))
    rows = (Part(0, key, payload, DONE, joined=True) for key, payload in zip(keys, payloads, strict=True))
    with closing(Store.open(site.folder / FULL / "gateway.db")) as store:
        store.commit([AppendParts(tuple(rows))])
    # The audit compares what the meters made: before the town's start they made nothing.
    (site.folder / PAST).write_text(json.dumps({"v": 1, "until": MONTHS_END}))
    return len(keys)


def left(site: Site) -> int:
    """Return the parts of the three months that the gateway's store has and that are not acknowledged."""
    with closing(sqlite3.connect(f"file:{site.folder / FULL / 'gateway.db'}?mode=ro", uri=True)) as store:
        which = f"relayed NOT IN ({AVERAGED}, {DONE}) AND quarter < {MONTHS_END // QUARTER_S}"
        return int(store.execute(f"SELECT count(*) FROM part WHERE {which}").fetchone()[0])


def listed(site: Site) -> dict[str, Refilling]:
    """Return the lines of the controllers' own stores."""
    rows = [Refilling.model_validate(row) for row in site.ask("utility", "/refilling")["refilling"]]
    return {row.microgrid: row for row in rows if row.microgrid == row.controller}


def lose(site: Site) -> None:
    """Let the utility lose its database, and register the town in a new one."""
    for file in site.folder.glob("utility/utility.db*"):
        file.unlink()
    site.register(f"sqlite:///{site.folder / 'utility' / 'utility.db'}")


def test_a_database_lost_at_a_months_end_is_refilled_and_the_progress_is_near_the_truth(site: Site) -> None:
    site.start(*PARTS, *METERS)
    eventually(lambda: all(site.metric(f"{name} gateway", ACKNOWLEDGED) >= 3 for name in MICROGRIDS))
    site.stop("utility", f"{FULL} gateway")
    lose(site)
    whole = fill(site)
    site.start("utility")
    assert listed(site)[FULL].state == "not heard"
    site.start(f"{FULL} gateway")
    # Heard again, it asks for the new database's history before it begins.
    eventually(lambda: FULL in (found := listed(site)) and (found[FULL].per_hour or 0) > 0)
    looks: list[Look] = []

    def is_refilled() -> bool:
        looks.append(Look(whole - left(site), listed(site)[FULL], whole - left(site)))
        return looks[-1].shown.state == "refilled"

    eventually(is_refilled, PATIENT_S)
    # What is shown is of a heartbeat, which may have waited for as long as the one before it holds.
    of_heartbeats = [next(each) for _, each in groupby(looks[:-1], lambda look: look.shown.heard)]
    assert of_heartbeats[-1].least >= whole / 10
    for earlier, look in pairwise(of_heartbeats):
        assert 0.8 * earlier.least <= (look.shown.sent or 0) <= 1.2 * look.most
    eventually(lambda: {row.state for row in listed(site).values()} == {"refilled"}, PATIENT_S)
    site.stop(*METERS)
    eventually(lambda: audited(site.folder).good)
