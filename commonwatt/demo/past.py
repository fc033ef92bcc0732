"""The past of the demonstration's own town: months of settled days, bills and readings, in an archive of this package.

It is emulated; ``python -m harness.past`` makes the archive anew, the same bytes each time (docs/scenarios.md).
"""

import shutil
import tarfile
import tempfile
from pathlib import Path

import zstandard

SHIPPED = Path(__file__).with_name("past.tar.zst")
LEVELS = "levels.json"  # the file of the levels of batteries at the past's end, in the data folder
WINDOW_BYTES = 1 << 27  # how far back the archive's compression refers


def unpack(data: Path) -> None:
    """Unpack the past into a data folder; nothing is left of an unpacking that was interrupted."""
    with tempfile.TemporaryDirectory(dir=data, prefix=".past-") as name:
        plain = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES)
        with (
            SHIPPED.open("rb") as file,
            plain.stream_reader(file) as reader,
            tarfile.open(fileobj=reader, mode="r|") as archive,
        ):
            archive.extractall(name, filter="data")
        shutil.copytree(name, data, dirs_exist_ok=True)
