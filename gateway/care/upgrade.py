"""Upgrades of one controller: fetches a release, and judges it while it runs (docs/guides/upgrade.md).

Fetching blocks: it runs on a thread, a piece at a step. What is fetched stays over a restart. Files in the folder
``upgrade`` beside the store: ``fetch.json`` (the order for root's unit), ``part`` (the package's bytes so far), then
those of ``commonwatt.care``.
"""

import asyncio
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from commonwatt.care.connection import CareConnection, CareRefused, CareUnreachable
from commonwatt.care.installing import (
    FOLDER,
    INSTALLED,
    ORDER,
    PACKAGE,
    UNPACKED_TIMES,
    VERDICT,
    architecture,
    read_state,
    result_of,
    since_boot,
    version_of,
)
from commonwatt.care.release import ReleaseManifest, check
from commonwatt.config.settings import GatewaySettings
from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol.heartbeats import LineMonth
from commonwatt.runtime.files import replace_file
from gateway.events import UpgradeEnded, WantedRelease
from gateway.loop.machine import THREADS

JUDGES_AT, ENDS_AT = 0.8, 0.95  # parts of the time for a verdict: when it may be good, and when it is bad
RAN_AT_LEAST = 0.5  # part of that time for which a good release has run without an end
SERVED_SHARE = 0.9  # part of the meters served before that must be served now
FRESH_S = 1_800  # age of the oldest waiting data below which a backlog does not grow


@dataclass(frozen=True, kw_only=True)
class Meters:
    """How many meters a gateway serves."""

    served: int  # meters whose readings it stored since its start
    before: int  # meters with readings in the hour before its start


@dataclass(frozen=True, kw_only=True)
class GatewayFacts:
    """What a gateway sees of itself."""

    meters: Meters  # how many it serves
    backlog: int  # parts of blocks that the utility has not acknowledged
    backlog_age_s: int  # seconds since the oldest of them ended
    bad: frozenset[str] = frozenset()  # the checks of its bad alarms


def faults(first: GatewayFacts, now: GatewayFacts) -> list[str]:
    """Return what a release does worse than the one before.

    Args:
        first: The facts at its start.
    """
    found = []
    if now.meters.served < SERVED_SHARE * now.meters.before:
        found.append(f"{now.meters.served} meters are served, {now.meters.before} were before")
    if now.backlog_age_s > FRESH_S and now.backlog >= first.backlog:
        found.append(f"the backlog grew from {first.backlog} to {now.backlog} parts")
    return found + sorted(f"an alarm of {check}" for check in now.bad)


def verdict(
    first: GatewayFacts, now: GatewayFacts, ran_s: float, waited_s: float, limit_s: float
) -> tuple[bool, str] | None:
    """Return whether a release is good, and why not; ``None``: it is too early.

    Args:
        first: The facts at its start.
        ran_s: Seconds since its start.
        waited_s: Seconds for which root's unit waits.
        limit_s: Seconds after which that goes back.
    """
    if waited_s < JUDGES_AT * limit_s:
        return None
    found = faults(first, now)
    if ran_s < RAN_AT_LEAST * limit_s:
        found.append(f"it started {ran_s:.0f} s ago")
    if not found:
        return True, ""
    return (False, "; ".join(found)) if waited_s >= ENDS_AT * limit_s else None


FETCH, PART = "fetch.json", "part"
SHARE = 4  # a fetch takes at most this part of what the month leaves of the line: a quarter
DISK_TIMES = 2 + UNPACKED_TIMES  # how many times a package's size must be free on the disk before it is fetched

log = logging.getLogger(__name__)


class Fetching:
    """Fetches one release at a time.

    Args:
        root: The folder of root's unit.
    """

    def __init__(self, settings: GatewaySettings, root: Path = FOLDER, care: CareConnection | None = None) -> None:
        self.folder = settings.store.absolute().parent / "upgrade"
        self._root = root
        self._authority = settings.head_end_ca
        if care is None and settings.care is not None and settings.head_end_ca is not None:
            care = CareConnection(settings.care, settings.head_end_ca)
        self._care = care

    def step(self, wanted: WantedRelease, month: LineMonth | None) -> UpgradeEnded | None:
        """Do the next step; return how it ended, or ``None`` while it lasts.

        Args:
            month: The line's use this month; ``None``: it is not counted.
        """
        try:
            return self._step(wanted, month)
        except CareUnreachable as error:
            log.info("upgrade to %s waits: %s", wanted.release, error)
            return None
        except (CareRefused, ConfigError, OSError, KeyError, ValueError) as error:
            self._clear()
            return UpgradeEnded(id=wanted.id, result="refused", why=str(error)[:200])

    def _step(self, wanted: WantedRelease, month: LineMonth | None) -> UpgradeEnded | None:
        if read_state(self._root) is not None:
            return None  # Root's unit is at work.
        result = result_of(self._root, wanted.id, wanted.release, self.folder / FETCH)
        is_here = wanted.release == own_release() == version_of(self._root / INSTALLED)
        if result is not None or is_here:
            self._clear()
            is_done = result is None or result.get("result") == "done"
            why = "" if result is None else str(result.get("why"))[:200]
            return UpgradeEnded(id=wanted.id, result="done" if is_done else "refused", why=why)
        if (self.folder / ORDER).exists():
            return None  # Root's unit takes it.
        if self._care is None:
            raise ConfigError("this controller is cared for by bundles: its settings have no care")
        if not self._root.is_dir():
            raise ConfigError("this controller's program is no package: it is upgraded by hand")
        self.folder.mkdir(mode=0o700, exist_ok=True)
        order = self._order(self._care, wanted)
        manifest = ReleaseManifest.model_validate_json(order["manifest"])
        part = self.folder / PART
        begin = part.stat().st_size if part.exists() else 0
        if begin < manifest.size_bytes:
            if not is_affordable(manifest.size_bytes - begin, month):
                return None
            if not (piece := self._care.piece(f"/release/{manifest.sha256}", begin)):
                raise ConfigError("the utility's file ended before its size")
            with part.open("ab") as file:
                file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            return None
        part.replace(self.folder / PACKAGE)
        # Root's unit begins when it sees this file, and checks all: what it names is durable before.
        replace_file(self.folder / ORDER, json.dumps(order).encode())
        log.info("release %s was fetched, %d bytes", wanted.release, manifest.size_bytes)
        return None

    def _order(self, care: CareConnection, wanted: WantedRelease) -> dict[str, str]:
        """Return the order for what is being fetched, or ask the utility for its manifest and signature."""
        kept = self.folder / FETCH
        if kept.exists():
            found: dict[str, str] = json.loads(kept.read_text())
            if found["id"] == wanted.id:
                return found
        self._clear()
        own = architecture()
        offer = care.post("/release", {"sha256": wanted.sha256, "architecture": own})
        order = {"id": wanted.id, "manifest": str(offer["manifest"]), "signature": str(offer["signature"])}
        assert self._authority is not None
        manifest = check(order["manifest"], order["signature"], self._authority.read_bytes())
        is_wanted = manifest.version == wanted.release and manifest.sha256 in wanted.sha256.split(",")
        if not is_wanted or manifest.architecture != own:
            raise ConfigError(f"the utility offers {manifest.version} of {manifest.architecture}, for {own}")
        needed = DISK_TIMES * manifest.size_bytes
        if (free := shutil.disk_usage(self.folder).free) < needed:
            raise ConfigError(f"{free:,} bytes are free, {needed:,} are needed")
        replace_file(kept, json.dumps(order).encode())
        return order

    def _clear(self) -> None:
        for name in (FETCH, PART, PACKAGE, VERDICT):
            (self.folder / name).unlink(missing_ok=True)


def own_release() -> str:
    """Return the version of this program, as Debian writes it."""
    return version("commonwatt").replace(".dev", "~dev")


def is_affordable(size_bytes: int, month: LineMonth | None) -> bool:
    """Return whether the line may carry so many bytes down this month: a share of what is left, none while at risk."""
    if month is None or month.level == "unknown":
        return True
    if month.level != "ok" or month.expected is None:
        return False
    return size_bytes * SHARE <= month.allowance - month.expected[1]


_OWN = frozenset({"broker", "head_end", "store", "program"})  # the checks that a release can make bad


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
        ended: Callable[[UpgradeEnded], None],
        root: Path = FOLDER,
    ) -> None:
        self._fetching = Fetching(settings, root)
        self._status, self._ended, self._root = status, ended, root
        self._began = time.monotonic()
        self._first: GatewayFacts | None = None
        self._looking: asyncio.Task[None] | None = None

    def look(self, wanted: WantedRelease | None, month: LineMonth | None, meters: Callable[[], Meters]) -> None:
        """Do what is due, on a thread, unless that lasts since the last look.

        Args:
            meters: Returns how many meters it serves, by its store; it is called at once, if at all.
        """
        is_judged, is_idle = self._is_judged(), self._looking is None or self._looking.done()
        if is_idle and (wanted is not None or is_judged):
            self._looking = asyncio.create_task(self._look(wanted, month, meters() if is_judged else None))

    async def _look(self, wanted: WantedRelease | None, month: LineMonth | None, meters: Meters | None) -> None:
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

    def _facts(self, meters: Meters) -> GatewayFacts:
        status = self._status()
        bad = _OWN & {alarm["check"] for alarm in status["alarms"] if alarm["level"] == "bad"}
        return GatewayFacts(
            meters=meters,
            backlog=status["backlog"]["parts"],
            backlog_age_s=status["backlog_age_s"],
            bad=bad,
        )
