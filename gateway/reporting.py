"""What a gateway does when a person, or a fault, asks what happened: reports, and recordings beside its store."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, Literal

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol.controller_commands import Action, ControllerCommand
from commonwatt.protocol.reports import compressed, report_of
from commonwatt.runtime.clock import Clock
from gateway.events import Reported
from gateway.loop.inbox import Inbox
from gateway.loop.threads import THREADS
from gateway.loop.work import Work
from gateway.recorder.blanked import without_readings
from gateway.recorder.recording import write_recording
from gateway.shown.shown import Shown
from gateway.witness.witness import Witness

Cause = Literal["alarm", "fault", "stuck", "report"]
AGAIN_AFTER_S = 3600.0  # real seconds after which a file of the same cause is written again, but by a person's command

log = logging.getLogger(__name__)


class Reporting:
    """Makes reports and recordings beside a gateway's other work, which does not wait for them."""

    def __init__(
        self, settings: GatewaySettings, clock: Clock, work: Work, shown: Shown, inbox: Inbox, witness: Witness
    ) -> None:
        self._witness = witness
        self._settings, self._clock, self._work, self._shown, self._inbox = settings, clock, work, shown, inbox
        self._failures, self._alarmed = 0, frozenset[str]()
        self._written: dict[str, float] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}

    def begin(self) -> None:
        """Begin a report or a signature that the utility wants."""
        for command in self._work.controller.own.utility_commands.reports.values():
            is_report = command.cmd == Action.REPORT
            self._begin(command.cmd, partial(self._report if is_report else self._sign, command))

    def look_for_faults(self) -> None:
        """Write a recording after a fault of the core, and at a new critical alarm."""
        self._begin("a recording", self._record_faults)

    def _begin(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if name not in self._under_way or self._under_way[name].done():
            self._under_way[name] = asyncio.create_task(work(), name=name)

    async def _report(self, command: ControllerCommand) -> None:
        # Imported here: the doctor would take memory in every gateway, and reports are rare.
        from gateway.report import make_report

        now = int(self._work.controller.own.now)
        try:
            said = await self._record("report", command.id, command.inputs == "blank") if command.inputs else ""
            status = await THREADS.run(self._shown.status)
            report = await THREADS.run(make_report, self._settings, status, now, said)
        except Exception as error:
            log.exception("the report %s failed", command.id)
            report = report_of(compressed(f"the report could not be made: {error!r}"))
        self._inbox.put(Reported(command, {"report": report}))

    async def _sign(self, command: ControllerCommand) -> None:
        try:
            said = await THREADS.run(self._witness.sign, command.month or "", command.code or "", command.replaces)
        except (ConfigError, OSError) as error:
            log.error("the code of %s is not signed: %s", command.month, error)
            said = {"result": "partial", "reason": str(error)[:200]}  # not refused: the utility asks again
        self._inbox.put(Reported(command, said))

    async def _record_faults(self) -> None:
        if self._work.failures > self._failures:
            self._failures = self._work.failures
            await self._record("fault", "the core failed on an event")
        before, self._alarmed = self._alarmed, await self._shown.critical()
        if new := sorted(self._alarmed - before):
            await self._record("alarm", ", ".join(new))

    async def _record(self, cause: Cause, why: str, blanked: bool = False) -> str:
        return await THREADS.run(self.write, cause, why, self._work.recorder.frames(), blanked=blanked)

    def stuck(self, what: str) -> None:
        """Write a recording before the watchdog ends the process; on its thread."""
        self.write("stuck", f"{what} made no progress", self._work.recorder.frames())

    def write(self, cause: Cause, why: str, frames: Sequence[bytes], *, blanked: bool = False) -> str:
        """Write a recording, unless one of its cause was written lately; return what became of it, for people."""
        last = self._written.get(cause)
        if cause != "report" and last is not None and time.monotonic() - last < AGAIN_AFTER_S:
            return "a recording of the same cause was written within the last hour"
        if not frames:
            return "nothing is recorded: see the log"
        store = self._settings.store
        path = store.with_name(f"{store.stem}-{cause}.cwr")
        time_s, controller = int(self._clock.now()), self._settings.controller
        about = {"release": version("commonwatt"), "controller": controller, "time": time_s, "reason": why}
        try:
            write_recording(path, {**about, "blanked": blanked}, without_readings(frames) if blanked else frames)
        except OSError as error:
            log.error("the recording %s can't be written (%s)", path, error)
            return f"the recording can't be written: {error}"
        self._written[cause] = time.monotonic()
        log.warning("the events of the last hour are in %s: %s", path, why)
        return f"recording: {path}; show it with: commonwatt replay {path.name}"
