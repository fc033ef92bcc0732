"""The recordings beside a gateway's store: a file for each cause, each the last of its cause."""

import logging
import time
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from commonwatt.model.units import ControllerId
from commonwatt.runtime.clock import Clock
from gateway.recorder.blanked import blanked as without
from gateway.recorder.recorder import Recorder
from gateway.recorder.recording import write_recording

Cause = Literal["alarm", "fault", "stuck", "report"]
AGAIN_AFTER_S = 3600.0  # real seconds after which a file is written again, but by a person's command

log = logging.getLogger(__name__)


class RecordingFiles:
    """Writes what a recorder has."""

    def __init__(self, recorder: Recorder, controller: ControllerId, store: Path, clock: Clock) -> None:
        self._recorder, self._controller, self._store, self._clock = recorder, controller, store, clock
        self._written: dict[str, float] = {}

    def stuck(self, what: str) -> None:
        """Write the recording before the watchdog ends the process; on its thread."""
        self.write("stuck", f"{what} made no progress")

    def write(self, cause: Cause, why: str, *, blanked: bool = False) -> str:
        """Write the recording of a cause, unless that was done lately; return what became of it, for people."""
        last = self._written.get(cause)
        if cause != "report" and last is not None and time.monotonic() - last < AGAIN_AFTER_S:
            return "a recording of the same cause was written within the last hour"
        path = self._store.with_name(f"{self._store.stem}-{cause}.cwr")
        about = {"release": version("commonwatt"), "controller": self._controller, "time": int(self._clock.now())}
        try:
            frames = self._recorder.frames()
            write_recording(path, {**about, "reason": why, "blanked": blanked}, without(frames) if blanked else frames)
        except OSError as error:
            log.error("the recording %s can't be written (%s)", path, error)
            return f"the recording can't be written: {error}"
        self._written[cause] = time.monotonic()
        log.warning("the events of the last hour are in %s: %s", path, why)
        return f"recording: {path}; show it with: commonwatt replay {path.name}"
