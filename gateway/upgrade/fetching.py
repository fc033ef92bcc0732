"""Fetches a release from the utility, piece by piece, within the LTE line's budget, and hands it to root's unit.

It blocks: it runs on a thread, a piece at a step. What is fetched stays over a restart. Files in the folder ``upgrade``
beside the store: ``fetch.json`` (the order for root's unit), ``part`` (the package's bytes so far), then those of
``commonwatt.care``.
"""

import json
import logging
import os
import shutil
from importlib.metadata import version
from pathlib import Path

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
    version_of,
)
from commonwatt.care.release import Manifest, check
from commonwatt.config.settings import GatewaySettings
from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol.heartbeats import Month
from commonwatt.runtime.files import replace_file
from gateway.upgrade.wanted import Ended, Wanted

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

    def step(self, wanted: Wanted, month: Month | None) -> Ended | None:
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
            return Ended(id=wanted.id, result="refused", why=str(error)[:200])

    def _step(self, wanted: Wanted, month: Month | None) -> Ended | None:
        if read_state(self._root) is not None:
            return None  # Root's unit is at work.
        result = result_of(self._root, wanted.id, wanted.release, self.folder / FETCH)
        is_here = wanted.release == own_release() == version_of(self._root / INSTALLED)
        if result is not None or is_here:
            self._clear()
            is_done = result is None or result.get("result") == "done"
            why = "" if result is None else str(result.get("why"))[:200]
            return Ended(id=wanted.id, result="done" if is_done else "refused", why=why)
        if (self.folder / ORDER).exists():
            return None  # Root's unit takes it.
        if self._care is None:
            raise ConfigError("this controller is cared for by bundles: its settings have no care")
        if not self._root.is_dir():
            raise ConfigError("this controller's program is no package: it is upgraded by hand")
        self.folder.mkdir(mode=0o700, exist_ok=True)
        order = self._order(self._care, wanted)
        manifest = Manifest.model_validate_json(order["manifest"])
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

    def _order(self, care: CareConnection, wanted: Wanted) -> dict[str, str]:
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


def is_affordable(size_bytes: int, month: Month | None) -> bool:
    """Return whether the line may carry so many bytes down this month: a share of what is left, none while at risk."""
    if month is None or month.level == "unknown":
        return True
    if month.level != "ok" or month.expected is None:
        return False
    return size_bytes * SHARE <= month.allowance - month.expected[1]
