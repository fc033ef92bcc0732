"""Builds the recorder, makes a part's environment for it, and reads its trace."""

import itertools
import subprocess
from pathlib import Path

from harness.powercut.disk import Kind, read_folder, records
from harness.real.parts import real_part

SOURCE = Path(__file__).with_name("recorder.c")


def build(folder: Path) -> Path:
    """Compile the recorder into ``folder``; return the library."""
    library = folder / "recorder.so"
    subprocess.run(
        [real_part("cc"), "-O2", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl", "-lpthread"],
        check=True,
    )
    return library


class Recorder:
    """Watches one folder for one process, from what is in it now.

    Args:
        library: The recorder.
        folder: What is watched.
        trace: Where it is recorded.

    Attributes:
        failing: While there is such a file, syncs of watched files fail.
        base: What was in the folder before.
    """

    def __init__(self, library: Path, folder: Path, trace: Path) -> None:
        self.failing = trace.with_suffix(".failing")
        self.base = read_folder(folder)
        self._library = library
        self._folder = folder
        self._trace = trace

    def environment(self) -> dict[str, str]:
        """Return what is added to the process's environment."""
        return {
            "LD_PRELOAD": str(self._library),
            "POWERCUT_FOLDER": str(self._folder),
            "POWERCUT_TRACE": str(self._trace),
            "POWERCUT_FAILING": str(self.failing),
        }

    def position(self) -> int:
        """Return how much is recorded; what was committed before is in it."""
        return self._trace.stat().st_size

    def trace(self) -> bytes:
        """Return what was recorded."""
        return self._trace.read_bytes()

    def opened_after_failure(self) -> bool:
        """Return whether a database was opened after a failed sync."""
        done = (record for _, record in records(self.trace()))
        after = itertools.dropwhile(lambda record: record.kind is not Kind.SYNC_FAILED, done)
        return any(record.kind is Kind.OPENED and record.path.endswith(".db") for record in after)

    def content(self) -> dict[str, bytes]:
        """Return what is in the folder now."""
        return read_folder(self._folder)
