"""Meters that are reset, exchanged, roll over, dip, or have a full log: no phantom energy, no silent gap."""

import math
import random
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commonwatt.demo.layout import STARTS_AT
from commonwatt.identity.devices import load_tokens
from commonwatt.model.records import HistoryRecord, Log, RecordType, Rejection
from commonwatt.model.units import SLOT_S
from commonwatt.protocol.meter_messages import Put, PutAck, unpack_put_ack
from commonwatt.protocol.topics import meter_down, meter_up
from harness.network.waiting import PATIENCE_S, eventually
from harness.real.site import Site, audited
from tests.integration.test_broker import WAIT_S, Client

METER = 77
TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 1\npush_share = 1.0\n'
FOREIGN = f'[[meter]]\nmicrogrid = "r001"\nid = {METER}\nrecord_types = ["through", "register"]\n'
FIRST_SLOT = STARTS_AT - 3600
MODULUS = 1_000_000_000  # the scripted meter's counter begins at 0 again when it gets here, milliwatt-hours


AGAIN_S = 5.0  # seconds after which a put without an acknowledgement is sent again


class Scripted:
    """A meter that follows a script: the energy of each slot, and its counter after the slot."""

    def __init__(self, site: Site) -> None:
        self.flowed: dict[int, int] = {}  # true energy, milliwatt-hours, by start of the slot
        self.counted: dict[int, int] = {}  # reading of the counter at the end of the slot
        self.register = MODULUS - 4000
        self._generation, self._next = 1, 1
        self._slot = FIRST_SLOT
        token = load_tokens(site.folder / "r001" / "meter-tokens.json")[str(METER)]
        self._client = Client(site.address("r001 broker")[1], str(METER), token)
        assert self._client.answered.wait(WAIT_S)
        assert self._client.subscribe(meter_down("r001", METER, "+"))

    def close(self) -> None:
        self._client.close()

    def measure(self, *flows: int, dip: bool = False) -> Put:
        """Measure slots, and deliver them; with ``dip`` the counter shows 500 less for once at the last."""
        records: list[tuple[RecordType, int, int]] = []
        for left, flow in enumerate(flows, 1 - len(flows)):
            self.register = (self.register + flow) % MODULUS
            shown = self.register - (500 if dip and not left else 0)
            records += [(RecordType.THROUGH, self._slot, flow), (RecordType.REGISTER, self._slot, shown)]
            self.flowed[self._slot], self.counted[self._slot] = flow, shown
            self._slot += SLOT_S
        packed = tuple(self._record(n, *record) for n, record in enumerate(records))
        put = Put(
            log=Log.HISTORY,
            generation=self._generation,
            first_id=self._next,
            last_id=self._next + len(packed) - 1,
            records=packed,
        )
        self._next += len(packed)
        self.deliver(put)
        return put

    def _record(self, n: int, kind: RecordType, start: int, reading: int) -> bytes:
        return HistoryRecord(
            record_type=kind,
            lossy=0,
            record_id=self._next + n,
            meter_id=METER,
            account=0,
            start=start,
            end=start + SLOT_S,
            reading=reading,
        ).pack()

    def poison(self, flow: int) -> None:
        """Deliver a good record and one that is off the grid in one put, and then noise."""
        good = self._record(0, RecordType.THROUGH, self._slot, flow)
        bad = self._record(1, RecordType.THROUGH, self._slot + SLOT_S + 7, flow)
        put = Put(
            log=Log.HISTORY,
            generation=self._generation,
            first_id=self._next,
            last_id=self._next + 1,
            records=(good, bad),
        )
        self.flowed[self._slot] = flow
        self._next += 2
        self._slot += SLOT_S
        self.deliver(put, rejected=((put.last_id, Rejection.UNALIGNED),))
        self._client.publish(meter_up("r001", METER, "rec"), bytes(range(99)))

    def deliver(self, put: Put, rejected: tuple[tuple[int, Rejection], ...] = ()) -> PutAck:
        """Send a put until exactly that put is acknowledged, without another rejected record.

        Like any meter it sends again: the gateway may not have subscribed yet.
        """
        began = time.monotonic()
        sent = -math.inf
        while (now := time.monotonic()) - began < PATIENCE_S:
            if now - sent >= AGAIN_S:
                self._client.publish(meter_up("r001", METER, "rec"), put.pack())
                sent = now
            # The gateway's commands come all the time.
            topic, payload = self._client.next()
            if topic.endswith("/ack") and (ack := unpack_put_ack(payload)).confirms(put):
                assert ack.rejected == rejected
                return ack
        raise AssertionError("a put was not acknowledged")

    def begin_anew(self, register: int) -> None:
        """Act as a meter without its memory, or as a new device in its place: a higher generation, ids from 1."""
        self._generation += 1
        self._next = 1
        self.register = register

    def go_back(self, slots: int) -> None:
        """Measure the last slots again."""
        self._slot -= slots * SLOT_S


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path / "site", TOWN + FOREIGN) as it:
        yield it


def dumped(site: Site) -> dict[RecordType, dict[int, int]]:
    """Return the utility's readings of the scripted meter, by type and slot."""
    blocks = site.dump()
    found: dict[RecordType, dict[int, int]] = {}
    for row, (meter, kind, quarter) in enumerate(blocks.keys()):
        if meter == METER:
            found.setdefault(RecordType(kind), {}).update(
                (quarter * 900 + slot * SLOT_S, int(blocks.values[row, slot]))
                for slot in range(60)
                if blocks.quality[row, slot]
            )
    return found


def ask(path: Path, sql: str) -> list[Any]:
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()


def test_row_22_reset_exchange_rollover_and_dip_make_no_phantom_energy(site: Site) -> None:
    site.start("head-end", "utility", "r001 broker", "r001 gateway")
    meter, rng = Scripted(site), random.Random(22)
    first = meter.measure(*(rng.randrange(2000) for _ in range(20)))  # the counter rolls over within these
    assert min(meter.counted.values()) < 50_000 < MODULUS - 50_000 < max(meter.counted.values())
    meter.measure(300, 400, 500, dip=True)
    meter.begin_anew(register=0)  # a reset
    meter.measure(*(rng.randrange(2000) for _ in range(20)))
    meter.deliver(first)  # the network, or a restored store, sends the old log again
    meter.begin_anew(register=55_555_000)  # exchanged
    meter.measure(*(rng.randrange(2000) for _ in range(20)))
    meter.go_back(1)  # and both devices report the slot of the exchange, each with its own reading
    last = meter.flowed[FIRST_SLOT + 62 * SLOT_S]
    meter.begin_anew(register=7)
    meter.measure(last + 100, 0, 0)
    meter.flowed[FIRST_SLOT + 62 * SLOT_S] = last  # the smaller stands, and the two are never added
    meter.counted[FIRST_SLOT + 62 * SLOT_S] = min(7 + last + 100, meter.counted[FIRST_SLOT + 62 * SLOT_S])
    site.drained()
    found = dumped(site)
    assert found[RecordType.THROUGH] == meter.flowed
    assert found[RecordType.REGISTER] == meter.counted
    assert sum(found[RecordType.THROUGH].values()) == sum(meter.flowed.values())
    database = site.folder / "utility" / "utility.db"
    eventually(lambda: not ask(database, "SELECT id FROM batch"))
    totals = ask(database, "SELECT record_type, total FROM compacted")
    assert {kind for kind, total in totals if total is not None} == {RecordType.THROUGH}, "counters are never summed"
    meter.close()


def test_row_28_a_poison_record_is_kept_aside_and_the_rest_flows(site: Site) -> None:
    site.start("head-end", "utility", "r001 broker", "r001 gateway")
    meter = Scripted(site)
    meter.measure(100, 200)
    meter.poison(300)
    meter.measure(400, 500)
    dead_letters = site.folder / "utility" / "utility.db"
    eventually(lambda: ask(dead_letters, "SELECT count(*) FROM letter") == [(2,)])
    site.drained()
    assert dumped(site)[RecordType.THROUGH] == meter.flowed
    (kept,) = ask(dead_letters, f"SELECT content FROM letter WHERE reason = {int(Rejection.UNALIGNED)}")
    assert len(kept[0]) == 36, "the whole record"
    meter.close()


def completeness(site: Site, start: int, end: int) -> list[dict[str, Any]]:
    """Return the utility's completeness of each meter and type."""
    rows: list[dict[str, Any]] = site.ask("utility", f"/completeness?start={start}&end={end}&microgrid=r001")["series"]
    return rows


def gaps_of(site: Site) -> dict[int, int]:
    """Return by meter the number of unrecorded slots, from its own store."""
    return dict(ask(site.folder / "r001" / "meters.db", "SELECT meter, gaps FROM meter"))


def test_row_23_a_meter_without_room_leaves_an_explicit_counted_gap(tmp_path: Path) -> None:
    with Site(tmp_path / "site", TOWN, speed=100) as site:
        config = site.layout.part("r001 meters").config
        config.write_text(config.read_text() + "log_records = 250\nresolution_mwh = 1\nfailures_per_day = 0\n")
        site.start("head-end", "utility", "r001 broker", "r001 gateway", "r001 meters")
        eventually(lambda: site.metric("utility", "commonwatt_utility_slots_total") > 500)
        site.kill("r001 broker")
        eventually(lambda: site.metric("r001 meters", "commonwatt_meters_slots_not_recorded_total") > 100)
        site.start("r001 broker")
        eventually(lambda: (site.status("r001 meters") or {"held": 10_000})["held"] < 100)
        for _ in range(15):  # a loaded machine may leave another gap after the end: check a later one
            gaps, end = gaps_of(site), (int(site.layout.clock.now()) // 900 + 1) * 900
            eventually(lambda: site.layout.clock.now() > end + 1800)  # noqa: B023 - done before the next turn
            eventually(lambda: not any(row["missing"] for row in completeness(site, STARTS_AT, end)))  # noqa: B023
            # While a gap lasts, the meter has not counted all of it.
            rows = completeness(site, STARTS_AT, end)
            if gaps == gaps_of(site) and all(row["absent"] == gaps[int(row["meter"])] for row in rows):
                break
        site.stop("r001 meters")
        assert sum(gaps.values()) > 100
        for row in completeness(site, STARTS_AT, end):
            assert row["absent"] == gaps[int(row["meter"])], row
            assert row["expected"] == row["exact"] + row["off"] + row["absent"], row
        assert audited(site.folder).good
