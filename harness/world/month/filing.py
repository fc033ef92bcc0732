"""Months of readings that go to files and back while readings come, and files that rot.

What rots is put back from a copy when the faults end, as the runbook says. Until then damage may hide readings, and
never show others.
"""

import random
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy.exc import OperationalError

from commonwatt.model.blocks import Quality
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.units import QUARTER_S, SLOT_S
from harness.world.node import Crash
from utility.archive.store.archive import Archive
from utility.database.postgres.partitions import first_quarter, month_of
from utility.readings.store.archived import ArchiveError
from utility.readings.store.reads import all_blocks

if TYPE_CHECKING:
    from harness.world.month.world import MonthWorld

AFTER_S = 90 * 86_400  # seconds after the world's start: all months are over then


class Filing:
    """The files of one utility."""

    def __init__(self, world: "MonthWorld") -> None:
        self._world = world
        self._folder = world.folder / "archive"
        self._folder.mkdir()
        self._rotten: dict[Path, tuple[bytes, bytes]] = {}  # files that rotted: as they are, and as they were

    def run(self, rng: random.Random, what: str) -> None:
        """Bring months to files, or one back; others act between two steps, and the machine may fail at any."""
        utility, world = self._world.utility, self._world
        if not utility.up:
            return

        def reached(step: str) -> None:
            chance = rng.random()
            if chance < 0.1:
                world.tell("archive", f"fails after {step}")
                raise Crash
            if chance < 0.3:
                utility.trying(lambda: utility._compact(utility.clock()))

        archive = Archive(utility.database, self._folder, world.clock(), reached)
        month = first_quarter(month_of(rng.choice((world.month_end - 1, world.month_end))))
        try:
            if what == "restore":
                archive.restore(month)
            elif rng.random() < 0.5:
                archive.run(world.start // QUARTER_S + AFTER_S // QUARTER_S)
            else:
                archive.write_month(month)
            world.story.count(f"archive {what}")
        except (StoreError, ConfigError, OperationalError) as error:
            world.tell("archive", f"can't {what}: {str(error).replace(str(world.folder), '')}")

    def rot(self, rng: random.Random) -> None:
        """Flip a bit of a file, and look at everything."""
        files = self._files()
        if not files:
            return
        path = rng.choice(files)
        content = bytearray(path.read_bytes())
        sound = self._sound(path)
        at, bit = rng.randrange(len(content)), rng.randrange(8)
        content[at] ^= 1 << bit
        new = path.with_suffix(".rotten")  # another file, so that none of its groups is in memory
        new.write_bytes(content)
        new.rename(path)
        self._rotten[path] = bytes(content), sound
        self._world.tell("archive", f"ROT: bit {bit} of byte {at} of {path.name}")
        self._world.story.count("archive rots")
        self.look()

    def look(self) -> None:
        """Check that nothing is shown that was never measured; a file that can't be read shows nothing."""
        world = self._world
        with suppress(ArchiveError):
            for blocks in list(all_blocks(self._world.utility.database, 0, 2**32 // QUARTER_S)):
                for row, slot in zip(*np.nonzero(blocks.quality == Quality.EXACT), strict=True):
                    meter, kind, quarter = blocks.key(int(row))
                    key, at = (meter, kind), quarter * QUARTER_S + int(slot) * SLOT_S
                    value = int(blocks.values[row, slot])
                    made = {world.ledger.made.get(key, {}).get(at), *world.ledger.made_again.get((*key, at), ())}
                    if value not in made:
                        world.fail(f"M3: a page shows a damaged value: {key} at {at} is {value}, measured {made}")

    def mend(self) -> None:
        """Put the copies back of files that rotted, and were not written anew since."""
        self.put_back(self.copied())

    def copied(self) -> dict[Path, bytes]:
        """Return the files, as a backup has them."""
        return {path: self._sound(path) for path in self._files()}

    def put_back(self, files: dict[Path, bytes]) -> None:
        """Put the files of a backup in place of those that are there."""
        for path in self._files():
            path.unlink()
        for path, content in files.items():
            path.write_bytes(content)

    @property
    def is_rotten(self) -> bool:
        """Whether a file is not as it was written."""
        return any(self._sound(path) != path.read_bytes() for path in self._files())

    def _sound(self, path: Path) -> bytes:
        content = path.read_bytes()
        rotten, sound = self._rotten.get(path, (b"", b""))
        return sound if content == rotten else content

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("blocks-*.parquet"))
