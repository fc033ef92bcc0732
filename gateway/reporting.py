"""What a gateway does when the utility asks for a report, or for its signature of a month's bills."""

import asyncio
import logging

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol.controller_commands import Action, ControllerCommand
from commonwatt.protocol.reports import compressed, report_of
from gateway.events import Reported
from gateway.loop.inbox import Inbox
from gateway.loop.threads import THREADS
from gateway.loop.work import Work
from gateway.shown.shown import Shown
from gateway.witness.witness import Witness

log = logging.getLogger(__name__)


class Reporting:
    """Makes reports and signatures beside a gateway's other work, which does not wait for them."""

    def __init__(self, settings: GatewaySettings, work: Work, shown: Shown, inbox: Inbox, witness: Witness) -> None:
        self._witness = witness
        self._settings, self._work, self._shown, self._inbox = settings, work, shown, inbox
        self._under_way: dict[str, asyncio.Task[None]] = {}

    def begin(self) -> None:
        """Begin a report or a signature that the utility wants."""
        for command in self._work.controller.own.utility_commands.reports.values():
            if command.cmd not in self._under_way or self._under_way[command.cmd].done():
                make = self._report if command.cmd == Action.REPORT else self._sign
                self._under_way[command.cmd] = asyncio.create_task(make(command), name=command.cmd)

    async def _report(self, command: ControllerCommand) -> None:
        # Imported here: the doctor would take memory in every gateway, and reports are rare.
        from gateway.report import make_report

        now = int(self._work.controller.own.now)
        try:
            status = await THREADS.run(self._shown.status)
            report = await THREADS.run(make_report, self._settings, status, now)
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
