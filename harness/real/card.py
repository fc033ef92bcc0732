"""A controller's card: an ext4 file system in a file, mounted through a loop device that counts what is written."""

import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

SECTOR = 512
SIZE_MIB = 256


class Card:
    """An ext4 file system of its own, mounted while the block runs; it needs root.

    Args:
        image: The file that holds it; made.
        folder: Where it is mounted; made.
        options: Further options of the mount, separated by commas.
    """

    def __init__(self, image: Path, folder: Path, options: str = "") -> None:
        self.folder = folder  # where it is mounted
        self._image = image
        self._options = options

    def __enter__(self) -> Self:
        with self._image.open("wb") as image:
            image.truncate(SIZE_MIB << 20)
        # Without initialising the rest of the file system in the background, which would be counted.
        lazy = "lazy_itable_init=0,lazy_journal_init=0"
        subprocess.run(["mkfs.ext4", "-q", "-E", lazy, self._image], check=True)
        self.folder.mkdir()
        options = ",".join(filter(None, ("loop", self._options)))
        subprocess.run(["mount", "-o", options, self._image, self.folder], check=True)
        device = self.folder.stat().st_dev
        self._counts = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
        return self

    def written_bytes(self) -> int:
        """Return the bytes written to the device since it exists."""
        return int(self._counts.read_text().split()[6]) * SECTOR

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(["umount", self.folder], check=True)
