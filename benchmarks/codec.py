"""The time to pack and unpack blocks, and to process a batch at the utility before its database."""

import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.town import household, levels, packed_batch
from commonwatt.codec.packing import pack, unpack
from commonwatt.model.blocks import Blocks, Quality, average, make_blocks
from commonwatt.model.records import RecordType
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import QUARTER_S, SLOTS
from commonwatt.model.validation import limits_of
from commonwatt.protocol.batches import MAX_BATCH_BLOCKS
from commonwatt.protocol.topics import BATCHES, gateway_up
from harness.docs.measured import Goal, Section, Table, number, spread
from utility.readings.core import Core, FromGateway
from utility.readings.flows import summaries
from utility.registry.snapshot import MeterEntry, RegistrySnapshot

MICROGRID = "r001"
METERS = 64
FIRST_METER = 10_001
QUARTER = 1_988_889
BLOCKS_PER_S = 250_000  # the goal: blocks a second that the utility processes, without its database

WHOLE, MINUTE = "whole quarter-hours", "parts of a minute"

LIMITED_BY = "One core; unpacking takes most of it."


def shapes(n: int) -> dict[str, Blocks]:
    """Return batches of ``n`` blocks: a noisy household's, and a battery's level."""
    rng = np.random.default_rng(1)
    flow = [(FIRST_METER + row % METERS, int(RecordType.THROUGH), QUARTER - row // METERS) for row in range(n)]
    level = [(meter, int(RecordType.STORED), quarter) for meter, _, quarter in flow]
    readings = household(rng, n, 1)
    all_slots = np.full((n, SLOTS), Quality.EXACT)
    minute = np.arange(SLOTS)[None, :] // 4 == rng.integers(0, SLOTS // 4, n)[:, None]
    whole = make_blocks(flow, readings, all_slots)
    return {
        WHOLE: whole,
        MINUTE: make_blocks(flow, readings, minute * Quality.EXACT),
        f"{WHOLE}, levels": make_blocks(level, levels(rng, n, 1), all_slots),
        f"{WHOLE}, averaged": average(whole),
    }


def bench(*, smoke: bool = False) -> Section:
    """Measure every kind of batch."""
    n, runs = (24, 1) if smoke else (MAX_BATCH_BLOCKS, 15)
    found = {name: _measure(blocks, runs) for name, blocks in shapes(n).items()}
    rows = []
    for name, (blocks, samples) in found.items():
        slots = int(np.count_nonzero(blocks.quality))
        size = len(pack(blocks).buffer) / slots
        rates = (spread([slots / taken_s for taken_s in each]) for each in samples.values())
        rows.append((name, number(size), *rates))
    goals = tuple(
        Goal(
            what=f"a batch of {name} read, checked and summed up",
            value=n / statistics.median(found[name][1]["utility"]),
            unit="blocks/s",
            at_least=BLOCKS_PER_S,
            limited_by=LIMITED_BY,
        )
        for name in (WHOLE, MINUTE)
    )
    return Section(
        title="Packing, and taking in a batch",
        about=f"Batches of {n:,} blocks, on one core. *Utility* is all of the utility's work on a received message "
        "before its database: expand and check it, compare every block with the registry, unpack, find implausible "
        "readings, and compute the sums that are stored with a compacted block.",
        tables=(
            Table(
                title="Readings a second",
                columns=("blocks", "bytes a reading", "pack", "unpack", "utility"),
                rows=tuple(rows),
            ),
        ),
        goals=goals,
    )


def _measure(blocks: Blocks, runs: int) -> tuple[Blocks, dict[str, list[float]]]:
    """Return the seconds of each run, by operation; operations take turns, so that each has the same machine."""
    keys, payloads = blocks.keys(), pack(blocks)
    work: dict[str, Callable[[], object]] = {
        "pack": partial(pack, blocks),
        "unpack": partial(unpack, keys, payloads),
        "utility": _utility(blocks),
    }
    samples: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(runs):
        for name, do in work.items():
            started = time.perf_counter()
            do()
            samples[name].append(time.perf_counter() - started)
    return blocks, samples


def _utility(blocks: Blocks) -> Callable[[], object]:
    known = MeterEntry(
        no=1,
        microgrid=MICROGRID,
        record_types=frozenset({int(RecordType.STORED), int(RecordType.THROUGH)}),
        limits=limits_of(200, 28_800_000),
    )
    meters = {FIRST_METER + number: known for number in range(METERS)}
    core = Core(1, RegistrySnapshot(controllers={MICROGRID: 1}, meters=meters), 900)
    now = (QUARTER + 1) * QUARTER_S
    message = packed_batch(MICROGRID, 1, now, blocks)

    def take_in() -> None:
        step = core.handle(FromGateway(gateway_up(MICROGRID, BATCHES), message), Now(now, Trust.NONE))
        assert step.result == "stored"
        summaries(blocks)

    return take_in
