"""Open the files left by a power cut with the stores' real code, and compare them with the acknowledged data."""

import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from sqlalchemy import select, true

from commonwatt.codec.packing import unpack
from commonwatt.model.blocks import Blocks, join
from commonwatt.model.exceptions import CommonwattError
from commonwatt.model.records import EventRecord, Log
from commonwatt.model.units import unsigned64
from gateway.store.store import Store
from harness.powercut.disk import Disk, Kind, records
from harness.powercut.load import GATEWAYS_METERS, GENERATION, Acknowledged, EventKey
from utility.database.database import open_database
from utility.readings.store.parts import PartReader, select_parts
from utility.readings.tables import event
from utility.registry.tables import meter


@dataclass(frozen=True)
class Recovered:
    """The contents of a store."""

    blocks: Blocks  # all of its blocks, joined
    events: Mapping[EventKey, EventRecord]  # by (meter, generation, id)
    covered: Mapping[tuple[int, Log], Sequence[tuple[int, int]]]  # by meter and log, the covered ranges of ids


Open: TypeAlias = Callable[[Path], Recovered]


def open_gateway(folder: Path) -> Recovered:
    """Open a gateway's store."""
    path = folder / "gateway.db"
    with closing(Store.open(path)) as store:
        parts = list(store.all_parts(unsent_only=False))
        recovered = Recovered(
            join([unpack([part.key for part in parts], [part.payload for part in parts])]),
            {(e.meter_id, generation, e.record_id): e for generation, e in store.all_events(unsent_only=False)},
            {(m, log): store.coverage(m, log, GENERATION) for m in GATEWAYS_METERS for log in Log},
        )
    _check_integrity(path)
    return recovered


def open_utility(folder: Path) -> Recovered:
    """Open a utility's database, as its service does."""
    path = folder / "utility.db"
    with closing(open_database(f"sqlite:///{path}", create=True)) as database:
        reader = PartReader(database)
        with database.reads.begin() as connection:
            blocks = reader.read(connection, select_parts(lambda _: true()))
            rows = connection.execute(select(event, meter.c.id).join(meter, meter.c.no == event.c.meter_no)).all()
        assert reader.damaged == 0
    events = [
        EventRecord(
            previous_state=row.previous_state,
            new_state=row.new_state,
            record_id=unsigned64(row.record_id),
            meter_id=unsigned64(row.id),
            time=row.time,
        )
        for row in rows
    ]
    _check_integrity(path)
    keyed = {(e.meter_id, row.generation, e.record_id): e for e, row in zip(events, rows, strict=True)}
    return Recovered(blocks, keyed, {})


def _check_integrity(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(f"{path.name}: {found}")


def lost(recovered: Recovered, acknowledged: Sequence[Acknowledged]) -> list[str]:
    """Return, as text, the acknowledged data that is missing or wrong."""
    rows = {key: row for row, key in enumerate(recovered.blocks.keys())}
    amiss = []
    for message in acknowledged:
        for key, values in message.blocks.items():
            row = rows.get(key)
            if row is None:
                amiss.append(f"block {key} is not there")
            elif not np.array_equal(recovered.blocks.values[row], values) or recovered.blocks.extras_of(row):
                amiss.append(f"block {key} has other values")
        amiss += [f"event {key} is not there" for key, e in message.events.items() if recovered.events.get(key) != e]
        if message.ids is not None:
            meter_id, log, first, last = message.ids
            if not any(a <= first and last <= b for a, b in recovered.covered[meter_id, log]):
                amiss.append(f"ids {first} to {last} of {log.name} log of meter {meter_id} are not covered")
    return amiss


@dataclass(frozen=True)
class Recording:
    """One process's operations on its files, and its acknowledgements."""

    base: dict[str, bytes]  # its files before
    trace: bytes  # its operations
    acknowledged: Sequence[Acknowledged]  # its acknowledgements, by position

    def disk(self, seed: int) -> Disk:
        """Return its disk before the first operation; ``seed`` determines the losses of failed syncs."""
        return Disk(self.base, seed)


@dataclass(frozen=True)
class Cut:
    """One power cut."""

    position: int  # position in the trace
    acknowledged: int  # number of messages acknowledged before
    amiss: list[str]  # their lost data, or the error at opening the store; empty if there is neither


def power_cuts(recording: Recording, opening: Open, *, cuts: int, seed: int) -> Iterator[Cut]:
    """Cut the power at random moments, half of them right after an acknowledgement, and check the remaining data.

    If syncs failed, the cuts come after the first failed sync.
    """
    rng = random.Random(seed)
    since = recording.acknowledged[0].position
    since = next((end for end, done in records(recording.trace) if done.kind is Kind.SYNC_FAILED), since)
    positions = [message.position for message in recording.acknowledged if message.position >= since]
    ends = [end for end, _ in records(recording.trace) if end >= since]
    moments = sorted(rng.choice(positions if number % 2 else ends) for number in range(cuts))
    disk = recording.disk(seed)
    done = records(recording.trace)
    reached = 0
    following = next(done, None)
    for moment in moments:
        while following is not None and following[0] <= moment:
            reached = following[0]
            disk.feed(following[1])
            following = next(done, None)
        acknowledged = [message for message in recording.acknowledged if message.position <= moment]
        yield Cut(reached, len(acknowledged), _look(disk.after_cut(rng), opening, acknowledged))


def _look(left: dict[str, bytes], opening: Open, acknowledged: Sequence[Acknowledged]) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        for path, content in left.items():
            (Path(folder) / Path(path).name).write_bytes(content)
        try:
            return lost(opening(Path(folder)), acknowledged)
        except (sqlite3.Error, CommonwattError) as error:
            return [f"can't be opened: {error}"]
