"""Build the recorder, make a part's environment for it, and read its trace."""

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
    """Record one process's operations on one folder, from its present content on.

    Args:
        library: The recorder.
        folder: The recorded folder.
        trace: The file of the trace.
    """

    def __init__(self, library: Path, folder: Path, trace: Path) -> None:
        self.failing = trace.with_suffix(".failing")  # while this file exists, syncs of recorded files fail
        self.base = read_folder(folder)  # the content of the folder before
        self._library = library
        self._folder = folder
        self._trace = trace

    def environment(self) -> dict[str, str]:
        """Return the additions to the process's environment."""
        return {
            "LD_PRELOAD": str(self._library),
            "POWERCUT_FOLDER": str(self._folder),
            "POWERCUT_TRACE": str(self._trace),
            "POWERCUT_FAILING": str(self.failing),
        }

    def position(self) -> int:
        """Return the length of the trace; it includes all earlier commits."""
        return self._trace.stat().st_size

    def trace(self) -> bytes:
        """Return the trace."""
        return self._trace.read_bytes()

    def opened_after_failure(self) -> bool:
        """Return whether a database was opened after a failed sync."""
        done = (record for _, record in records(self.trace()))
        after = itertools.dropwhile(lambda record: record.kind is not Kind.SYNC_FAILED, done)
        return any(record.kind is Kind.OPENED and record.path.endswith(".db") for record in after)

    def content(self) -> dict[str, bytes]:
        """Return the present content of the folder."""
        return read_folder(self._folder)
