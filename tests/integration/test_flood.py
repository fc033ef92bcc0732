"""A client sends 5,000 messages a second; the others are not affected (303 meters, a real broker and gateway)."""

import asyncio
import time
from contextlib import closing
from functools import partial
from pathlib import Path

from harness.network.flood import FLOOD_PER_S, Apartments
from harness.network.waiting import PATIENCE_S, become
from harness.real.broker_process import broker_metric

WINDOW_S = 5.0
MEMORY_BYTES = 128 << 20  # what the broker of an apartment microgrid may take, flooded or not (docs/limits.md)
FLOODED_S = 300.0  # longer than any block below; the client is killed at its end


def count(apartments: Apartments, sample: str) -> float:
    address = apartments.site.layout.part("r001 broker").http
    assert address is not None
    return broker_metric(address, sample)


def grew(apartments: Apartments, before: float) -> bool:
    return count(apartments, "held_back_packets_total") > before


def test_good_meters_deliver_while_one_client_floods(tmp_path: Path) -> None:
    apartments = Apartments(tmp_path / "site")
    with apartments.site:
        asyncio.run(flooded_on_two_topics(apartments))
        apartments.site.stop("r001 gateway", "r001 broker")
    log = apartments.site.log("r001 broker")
    assert "Traceback" not in log
    assert f"holding back {apartments.flooder}" in log


async def flooded_on_two_topics(apartments: Apartments) -> None:
    with closing(apartments):
        await apartments.connect()
        quiet = await apartments.load(1, until_through_s=PATIENCE_S)
        assert quiet.acknowledged == quiet.offered == 5
        for topic in (f"cw1/r001/{apartments.flooder}/u/rec", "cw1/r001/1/u/rec"):
            before = count(apartments, 'messages_total{direction="in"}'), count(apartments, "held_back_packets_total")
            began = time.monotonic()
            with apartments.flooded(topic, 1, FLOODED_S):
                # On a busy machine it takes a while until it is a flood.
                await become(partial(grew, apartments, before[1]))
                delivery = await apartments.load(WINDOW_S, until_through_s=PATIENCE_S)
            # How fast they are is measured by BENCH=flood.
            assert delivery.acknowledged == delivery.offered == 25
            assert apartments.memory_bytes() < MEMORY_BYTES
            taken = count(apartments, 'messages_total{direction="in"}') - before[0]
            assert taken < FLOOD_PER_S / 5 * (time.monotonic() - began)
        assert count(apartments, 'refused_actions_total{action="publish"}') > 0
