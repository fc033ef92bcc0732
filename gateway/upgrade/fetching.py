"""Fetches a release from the utility in pieces, within the LTE line's budget, and hands it to root's unit.

It blocks: it runs on a thread, a piece at a step. What is fetched stays over a restart. Files in the folder ``upgrade``
beside the store: ``fetch.json`` (what is fetched), ``part`` (the bytes so far), then those of ``commonwatt.care``.
"""

import json
import logging
import os
import shutil
from importlib.metadata import version
from pathlib import Path

from pydantic import Field

from commonwatt.care.connection import CareConnection, CareRefused, CareUnreachable
from commonwatt.care.installing import (
    FOLDER,
    INSTALLED,
    ORDER,
    PACKAGE,
    VERDICT,
    architecture,
    read_state,
    result_of,
)
from commonwatt.care.release import MOST_BYTES, Manifest, assemble, check
from commonwatt.config.settings import GatewaySettings, Settings
from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol.heartbeats import Month
from commonwatt.runtime.files import replace_file, sha256_of
from gateway.upgrade.wanted import Ended, Wanted

FETCH, PART = "fetch.json", "part"
SHARE = 4  # a fetch takes at most this part of what the month leaves of the line: a quarter
DISK_TIMES = 4  # how many times a package's size must be free on the disk before it is fetched

log = logging.getLogger(__name__)


class Offer(Settings):
    """A file of the utility that leads to the wanted package."""

    manifest: str  # the release's manifest, JSON
    signature: str  # its signature, hexadecimal
    path: str  # where its pieces are
    size_bytes: int = Field(gt=0, le=MOST_BYTES)  # its bytes
    base: str | None = None  # the checksum of the package to which it is a difference; absent: it is whole


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
        except (CareRefused, ConfigError, OSError, ValueError) as error:
            self._clear()
            return Ended(id=wanted.id, result="refused", why=str(error)[:200])

    def _step(self, wanted: Wanted, month: Month | None) -> Ended | None:
        if read_state(self._root) is not None:
            return None  # Root's unit is at work.
        result = result_of(self._root, wanted.id, wanted.release, self.folder / FETCH)
        if result is not None or wanted.release == own_release():
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
        offer = self._offer(self._care, wanted)
        part = self.folder / PART
        begin = part.stat().st_size if part.exists() else 0
        if begin < offer.size_bytes:
            if not is_affordable(offer.size_bytes - begin, month):
                return None
            if not (piece := self._care.piece(offer.path, begin)):
                raise ConfigError("the utility's file ended before its size")
            with part.open("ab") as file:
                file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            return None
        self._hand_over(wanted, offer, part)
        return None

    def _offer(self, care: CareConnection, wanted: Wanted) -> Offer:
        """Return what is being fetched, or ask for it.

        Raises:
            ConfigError: The utility offers another release than the authority signed.
        """
        kept = self.folder / FETCH
        if kept.exists():
            found = json.loads(kept.read_text())
            if found["id"] == wanted.id:
                return Offer.model_validate(found["offer"])
        self._clear()
        own = architecture()
        asked: dict[str, object] = {"sha256": wanted.sha256, "base": self._base(), "architecture": own}
        offer = Offer.model_validate(care.post("/release", asked))
        manifest = self._manifest(offer)
        is_wanted = manifest.version == wanted.release and manifest.sha256 in wanted.sha256.split(",")
        if not is_wanted or manifest.architecture != own:
            raise ConfigError(f"the utility offers {manifest.version} of {manifest.architecture}, for {own}")
        needed = DISK_TIMES * manifest.size_bytes
        if (free := shutil.disk_usage(self.folder).free) < needed:
            raise ConfigError(f"{free:,} bytes are free, {needed:,} are needed")
        replace_file(kept, json.dumps({"id": wanted.id, "offer": offer.model_dump()}).encode())
        return offer

    def _base(self) -> str | None:
        kept = self._root / INSTALLED
        return sha256_of(kept) if kept.exists() else None

    def _manifest(self, offer: Offer) -> Manifest:
        assert self._authority is not None
        return check(offer.manifest, offer.signature, self._authority.read_bytes())

    def _hand_over(self, wanted: Wanted, offer: Offer, part: Path) -> None:
        base = None if offer.base is None else self._root / INSTALLED
        assemble(self._manifest(offer), part, base, self.folder / PACKAGE)
        order = {"id": wanted.id, "manifest": offer.manifest, "signature": offer.signature}
        # Root's unit begins when it sees this file: all else is durable before.
        replace_file(self.folder / ORDER, json.dumps(order).encode())
        part.unlink()
        log.info("release %s was fetched, %d bytes", wanted.release, offer.size_bytes)

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
