"""A backlog as a gateway keeps it after hours or days without the utility."""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from commonwatt.codec.packing import pack
from commonwatt.demo.layout import STARTS_AT
from commonwatt.model.blocks import Blocks, Quality, empty
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S
from gateway.store.store import Store

# Release 0.3, whose packages also run this file, had them in another module.
_changes = import_module("gateway.changes" if find_spec("gateway.changes") else "gateway.store.changes")
METERS = range(90_001, 90_005)
TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 1\npush_share = 1.0\n' + "".join(
    f'[[meter]]\nmicrogrid = "r001"\nid = {meter}\n' for meter in METERS
)
LIVE = STARTS_AT // QUARTER_S  # the first quarter after it


def parts_of(minutes: int) -> Blocks:
    """Return the parts of four meters, one a minute, as a gateway stores them; ``minutes`` is of whole quarters."""
    count = len(METERS) * minutes
    minute = np.repeat(np.arange(minutes), len(METERS))
    slots = (minute % 15 * 4)[:, None] + np.arange(4)
    values, quality = np.zeros((count, 60), np.int64), np.zeros((count, 60), np.uint8)
    rows = np.arange(count)[:, None]
    values[rows, slots] = np.random.default_rng(11).integers(0, 20_000, (count, 4))
    quality[rows, slots] = Quality.EXACT
    return Blocks(
        meter=np.tile(np.array(METERS, np.uint64), minutes),
        record_type=np.full(count, RecordType.THROUGH, np.uint8),
        quarter=(LIVE - minutes // 15 + minute // 15).astype(np.uint32),
        values=values,
        quality=quality,
        extras=empty().extras,
    )


def keep(path: Path, blocks: Blocks) -> None:
    """Put parts into a gateway's store."""
    store = Store.open(path)
    parts = tuple(_changes.Part(0, key, payload) for key, payload in zip(blocks.keys(), pack(blocks), strict=True))
    store.commit([_changes.AppendParts(parts)])
    store.close()


if __name__ == "__main__":
    # With an older version's packages, which then make the store.
    keep(Path(sys.argv[1]), parts_of(int(sys.argv[2])))
