"""A machine clock that a test sets, for one process."""

import subprocess
from pathlib import Path

from harness.real.parts import real_part


class FakeClock:
    """A faked machine clock for a process; monotonic clocks are real.

    Args:
        folder: The folder of its file.
        name: The name of the process.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._file = folder / f"{name}.clock"
        self.set(0)
        found = subprocess.run(
            [str(real_part("faketime")), "-m", "-f", "+0", "printenv", "LD_PRELOAD"], capture_output=True, text=True
        )
        # What the process needs in its environment.
        self.environment = {
            "LD_PRELOAD": found.stdout.strip(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, ahead_s: float) -> None:
        """Set its error relative to the right time from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead_s:+.0f}\n")
        new.replace(self._file)
