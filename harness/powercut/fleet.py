"""Emulated meters under the recorder: after a power cut, their store has every put that they published.

A put that was published and then forgotten would be published with other content under the same ids.
"""

import asyncio
import itertools
import json
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from commonwatt.device.store import open_store
from commonwatt.model.units import SLOT_S
from commonwatt.protocol.meter_messages import Put, unpack_put
from commonwatt.protocol.topics import EVENTS, RECORDS, all_meters_up, parse_meter_up
from harness.network.links import link_of
from harness.network.waiting import become, cancelled
from harness.powercut.disk import Disk, records
from harness.powercut.recorder import Recorder
from meter_sim.truth import TRUTH, true_records

FLEETS_TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 3\npush_share = 1.0\n'

Published = tuple[int, Put]  # the position of the trace at the arrival of a put, and the put


class Listener:
    """A listener in the gateway's place, which acknowledges nothing."""

    def __init__(self, folder: Path, address: str, position: Callable[[], int]) -> None:
        self.puts: list[Published] = []  # the received puts
        self._position = position
        self._link = link_of(
            address,
            token=json.loads((folder / "gateway-tokens.json").read_text())["r001"],
            subscribe=all_meters_up("r001"),
            on_message=self._receive,
        )

    def listen(self, meanwhile: Callable[["Listener"], None]) -> list[Published]:
        """Listen until ``meanwhile`` has returned, which is called after the first put; return the puts."""

        async def run() -> None:
            link = asyncio.create_task(self._link.run())
            try:
                await become(lambda: len(self.puts) >= 3)
                await asyncio.to_thread(meanwhile, self)
            finally:
                await cancelled(link)

        asyncio.run(run())
        return self.puts

    def _receive(self, topic: str, payload: bytes) -> None:
        parsed = parse_meter_up(topic)
        if parsed is not None and parsed.leaf in (RECORDS, EVENTS):
            self.puts.append((self._position(), unpack_put(payload)))


def unpublished(recorder: Recorder, puts: Sequence[Published], *, cuts: int, seed: int) -> Iterator[str]:
    """Cut the power after random puts; yield published puts that the store lacks, and missing slots."""
    rng = random.Random(seed)
    moments = sorted(rng.choice(puts)[0] for _ in range(cuts))
    disk = Disk(recorder.base, seed)
    done = records(recorder.trace())
    following = next(done, None)
    for moment in moments:
        while following is not None and following[0] <= moment:
            disk.feed(following[1])
            following = next(done, None)
        published = [put for position, put in puts if position <= moment]
        yield from _missing(disk.after_cut(rng), published)


def _missing(left: dict[str, bytes], published: Sequence[Put]) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        for path, content in left.items():
            (Path(folder) / Path(path).name).write_bytes(content)
        with closing(open_store(Path(folder) / "meters.db", TRUTH)) as store:
            held = {record.pack() for some in store.held_records() for record in some}
            held |= {event.pack() for _, event in store.held_events()}
            slots = [slot_end for slot_end, _ in true_records(store)]
    for put in published:
        if not held.issuperset(put.records):
            yield f"{put.log.name} {put.first_id} to {put.last_id}, which were published, are not held"
    if any(after - before != SLOT_S for before, after in itertools.pairwise(slots)):
        yield f"slots are missing: {slots}"
