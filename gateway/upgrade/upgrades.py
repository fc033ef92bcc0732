"""The upgrades of one controller: what its running gateway does at each look."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from commonwatt.care.installing import FOLDER, VERDICT, read_state, since_boot
from commonwatt.config.settings import GatewaySettings
from commonwatt.protocol.heartbeats import Month
from commonwatt.runtime.files import replace_file
from gateway.loop.threads import THREADS
from gateway.upgrade.fetching import Fetching, own_release
from gateway.upgrade.verdict import Facts, Meters, verdict
from gateway.upgrade.wanted import Ended, Wanted

_OWN = frozenset({"broker", "head_end", "store", "program"})  # the checks that a release can make bad

log = logging.getLogger(__name__)


class Upgrades:
    """Fetches what is wanted, and gives the verdict while root's unit waits for it.

    Args:
        status: Returns what /status shows; it blocks.
        ended: Takes how an upgrade ended.
        root: The folder of root's unit.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        status: Callable[[], dict[str, Any]],
        ended: Callable[[Ended], None],
        root: Path = FOLDER,
    ) -> None:
        self._fetching = Fetching(settings, root)
        self._status, self._ended, self._root = status, ended, root
        self._began = time.monotonic()
        self._first: Facts | None = None
        self._looking: asyncio.Task[None] | None = None

    def look(self, wanted: Wanted | None, month: Month | None, meters: Callable[[], Meters]) -> None:
        """Do what is due, on a thread, unless that lasts since the last look.

        Args:
            meters: Returns how many meters it serves, by its store; it is called at once, if at all.
        """
        is_judged, is_idle = self._is_judged(), self._looking is None or self._looking.done()
        if is_idle and (wanted is not None or is_judged):
            self._looking = asyncio.create_task(self._look(wanted, month, meters() if is_judged else None))

    async def _look(self, wanted: Wanted | None, month: Month | None, meters: Meters | None) -> None:
        try:
            if meters is not None:
                await THREADS.run(self._judge, meters)
            if wanted is not None and (ended := await THREADS.run(self._fetching.step, wanted, month)) is not None:
                self._ended(ended)
        except Exception:
            log.exception("the upgrade failed; it is tried again")

    def stop(self) -> None:
        """End the look that lasts."""
        if self._looking is not None:
            self._looking.cancel()

    def _is_judged(self) -> bool:
        state = read_state(self._root)
        return state is not None and "began" in state and state["version"] == own_release()

    def _judge(self, meters: Meters) -> None:
        state = read_state(self._root)
        if state is None:
            return
        now = self._facts(meters)
        first = self._first = self._first or now
        ran_s, waited_s = time.monotonic() - self._began, since_boot() - state["began"]
        said = verdict(first, now, ran_s, waited_s, state["verdict_s"])
        known = read_state(self._fetching.folder, VERDICT)
        if said is None or (known is not None and known["id"] == state["id"]):
            return
        is_good, why = said
        self._fetching.folder.mkdir(mode=0o700, exist_ok=True)
        content = json.dumps({"id": state["id"], "good": is_good, "why": why})
        replace_file(self._fetching.folder / VERDICT, content.encode())
        log.log(logging.INFO if is_good else logging.ERROR, "verdict on this release: %s", why or "it works")

    def _facts(self, meters: Meters) -> Facts:
        status = self._status()
        bad = _OWN & {alarm["check"] for alarm in status["alarms"] if alarm["level"] == "bad"}
        return Facts(
            meters=meters,
            backlog=status["backlog"]["parts"],
            backlog_age_s=status["backlog_age_s"],
            bad=bad,
        )
