"""One valid meter puts days of slots in every message to a real gateway; another meter is still served."""

import asyncio
import json
import time
from pathlib import Path

from commonwatt.model.records import HistoryRecord, Log, RecordType
from commonwatt.protocol.meter_messages import Put, PutAck, Refusal, unpack_put_ack
from gateway.collect import BURST_SLOTS
from harness.network.mqtt import AsyncClient
from harness.network.waiting import become, eventually
from harness.real.site import Site

FLOODER, OTHER = 77, 78
METER = '[[meter]]\nmicrogrid = "r001"\nid = {id}\nrecord_types = ["through"]\naccount = {id}\n'
TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 1\n' + "".join(
    METER.format(id=meter) for meter in (FLOODER, OTHER)
)
DAY_S, SLOT_S = 86_400, 15
DAYS_IN_A_PUT = 17
FLOOD_S, FLOOD_PER_S = 3.0, 80
WITHIN_S = 15.0  # a meter's put is acknowledged within this; it takes milliseconds on a quiet machine


class Sender:
    """A registered meter; it sends puts and receives their acknowledgements."""

    def __init__(self, meter: int) -> None:
        self.meter = meter
        self.acks: list[PutAck] = []
        self.sent = 0
        self._next_id = 1

    async def connect(self, site: Site) -> None:
        token = json.loads((site.folder / "r001" / "meter-tokens.json").read_text())[str(self.meter)]
        _, port = site.address("r001 broker")
        self._client = await AsyncClient.connect(
            port, str(self.meter), token, f"cw1/r001/{self.meter}/d/ack", lambda _, ack: self._heard(ack)
        )

    def _heard(self, payload: bytes) -> None:
        self.acks.append(unpack_put_ack(payload))

    def put(self, end: int, count: int, each_s: int) -> None:
        """Send records that cover ``each_s`` seconds each, one after the other, up to ``end``."""
        first = self._next_id
        self._next_id += count
        records = tuple(
            HistoryRecord(
                record_type=RecordType.THROUGH,
                lossy=0,
                record_id=first + n,
                meter_id=self.meter,
                account=self.meter,
                start=end - each_s * (count - n),
                end=end - each_s * (count - n - 1),
                reading=1,
            ).pack()
            for n in range(count)
        )
        put = Put(log=Log.HISTORY, generation=1, first_id=first, last_id=self._next_id - 1, records=records)
        self._client.publish(f"cw1/r001/{self.meter}/u/rec", put.pack())
        self.sent += 1

    def close(self) -> None:
        self._client.close()


def slot() -> int:
    return int(time.time()) // SLOT_S * SLOT_S


async def flood(flooder: Sender) -> None:
    """Send puts, each with other days than the one before."""
    started = time.monotonic()
    for n in range(int(FLOOD_S * FLOOD_PER_S)):
        flooder.put(slot() - n % 20 * DAYS_IN_A_PUT * DAY_S, DAYS_IN_A_PUT, DAY_S)
        await asyncio.sleep(max(0.0, started + n / FLOOD_PER_S - time.monotonic()))


async def deliver_while_it_floods(site: Site) -> tuple[Sender, Sender]:
    flooder, other = Sender(FLOODER), Sender(OTHER)
    for sender in (flooder, other):
        await sender.connect(site)
    flooding = asyncio.create_task(flood(flooder))
    while not flooding.done():
        other.put(slot(), 4, SLOT_S)
        await become(lambda: len(other.acks) == other.sent, within_s=WITHIN_S)
        assert other.acks[-1].status is Refusal.NONE
    await flooding
    await become(lambda: len(flooder.acks) == flooder.sent)
    for sender in (flooder, other):
        sender.close()
    return flooder, other


def test_a_meter_that_asks_for_too_many_slots_is_refused_and_another_delivers(tmp_path: Path) -> None:
    with Site(tmp_path / "site", TOWN, speed=1) as site:
        site.add_setting("r001 gateway", "commit_s = 0")
        site.start("r001 broker", "r001 gateway")
        eventually(lambda: f"r001: connected to 127.0.0.1:{site.address('r001 broker')[1]}" in site.log("r001 gateway"))
        flooder, other = asyncio.run(deliver_while_it_floods(site))
        assert other.sent > 1, "it is served again and again while the other one floods"
        busy = sum(ack.status is Refusal.BUSY for ack in flooder.acks)
        taken = flooder.sent - busy
        assert {ack.status for ack in flooder.acks} == {Refusal.NONE, Refusal.BUSY}
        assert taken <= -(-BURST_SLOTS // (DAYS_IN_A_PUT * DAY_S // SLOT_S)) + 1, "the burst, and what a minute gives"
        over = "commonwatt_gateway_puts_over_allowance_total"
        eventually(lambda: site.metric("r001 gateway", over) == busy)
        eventually(lambda: f"meter {FLOODER}: it sends more than" in site.log("r001 gateway"))
        site.stop("r001 gateway", "r001 broker")
