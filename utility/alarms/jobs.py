"""Calls people by Apprise (mail, ntfy, Telegram, Matrix and others), and another machine each minute (dead man)."""

import json
import logging
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from commonwatt.model.units import EpochSeconds
from utility.alarms.board import AlarmRow
from utility.alarms.calls import Called, CallText, after, call, digest, due
from utility.alarms.decisions import alarms_of
from utility.database.database import Database, read_setting, save_setting
from utility.settings import NotifySettings
from utility.webkit.page import first_step
from utility.webkit.services import Api

DIGEST_HOUR = 8  # hour of the town's day from which the daily message is sent
BEAT_S = 60.0  # real seconds between two calls of the dead man's address
_WITHIN_S = 20.0  # real seconds after which such a call is given up
_KEPT = "notified"  # the setting that keeps who was called for what

log = logging.getLogger(__name__)


@dataclass(eq=False)
class AlarmNotifier:
    """Sends what the board of alarms calls for; what was sent is kept, so that a restart repeats none."""

    settings: NotifySettings  # whom to call
    database: Database  # where is kept who was called
    _: KW_ONLY
    zone: Callable[[], ZoneInfo]  # returns the town's time zone
    rows: Callable[[], Sequence[AlarmRow]]  # returns the alarms on the board
    is_active: Callable[[], bool]  # whether this utility is the one that acts, of those that share the database
    # By kind (call, digest, test, beat) and result.
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    failing: tuple[str, ...] = ()  # the addresses that did not take the last message, without their secrets
    _sending: threading.Lock = field(default_factory=threading.Lock)
    _called: dict[str, Called] | None = None
    _digested: str = ""

    def look(self, now: EpochSeconds) -> None:
        """Send what is due; call it again and again, on any thread. What could not be sent is due again.

        Raises:
            SQLAlchemyError: The database can't be read or written; what was sent may be sent again.
        """
        if not self.settings.to or not self.is_active() or not self._sending.acquire(blocking=False):
            return
        try:
            self._look(now)
        finally:
            self._sending.release()

    def _look(self, now: EpochSeconds) -> None:
        if self._called is None:
            self._called, self._digested = _read(self.database)
        rows, runbooks = self.rows(), f"{self.settings.console}/runbooks"
        made = {
            name: alarms
            for name, alarms in due(rows, self._called, now).items()
            if self._reaches("call", call(self.settings.name, alarms, first_step(name), f"{runbooks}#{name.lower()}"))
        }
        called, digested = after(rows, self._called, made, now), self._digested
        local = datetime.fromtimestamp(now, UTC).astimezone(self.zone())
        if (day := local.date().isoformat()) > digested and local.hour >= DIGEST_HOUR:
            message = digest(self.settings.name, rows, f"{self.settings.console}/console/alarms")
            if message is None or self._reaches("digest", message):
                digested = day
        if (called, digested) != (self._called, self._digested):
            self._called, self._digested = called, digested
            self.database.write(save_setting, _KEPT, _text(called, digested))

    def test(self) -> list[tuple[str, bool]]:
        """Send a test to every address; return each, without its secrets, and whether it took the message."""
        return self._send("test", CallText(title=f"{self.settings.name}: a test", text="Alarms arrive here."))

    def beat(self) -> None:
        """Call the dead man's address, which gives the alarm when no call comes any more."""
        address = self.settings.dead_man
        if address is None or not self.is_active():
            return
        try:
            with urllib.request.urlopen(address, timeout=_WITHIN_S):  # noqa: S310 - checked by the settings
                self.counts["beat", "sent"] += 1
        except OSError as error:
            self.counts["beat", "failed"] += 1
            log.warning("the dead man's address does not answer: %s", error)

    def _send(self, kind: str, message: CallText) -> list[tuple[str, bool]]:
        """Send a message to every address; return each, without its secrets, and whether it took the message."""
        # Loaded with the first message alone: its services take 27 MiB.
        from apprise import Apprise

        results = []
        for address in self.settings.to:
            target = Apprise.instantiate(address)
            is_sent = target is not None and bool(target.notify(title=message.title, body=message.text))
            shown = address if target is None else str(target.url(privacy=True))  # type: ignore[no-untyped-call]
            results.append((shown.partition(":" if target is None else "?")[0], is_sent))
            if not is_sent:
                log.error("%s did not take: %s", results[-1][0], message.title)
        self.failing = tuple(shown for shown, is_sent in results if not is_sent)
        self.counts[kind, "sent" if any(is_sent for _, is_sent in results) else "failed"] += 1
        return results

    def _reaches(self, kind: str, message: CallText) -> bool:
        return any(is_sent for _, is_sent in self._send(kind, message))


def notifier_of(api: Api) -> AlarmNotifier:
    """Return what calls people of a service, made by the first call."""
    if AlarmNotifier not in api.parts:
        api.parts[AlarmNotifier] = AlarmNotifier(
            api.settings.notify,
            api.database,
            zone=api.zone.read,
            rows=lambda: alarms_of(api).board().rows,
            is_active=api.database.is_active,
        )
    found: AlarmNotifier = api.parts[AlarmNotifier]
    return found


def _read(database: Database) -> tuple[dict[str, Called], str]:
    kept = json.loads(database.read(read_setting, _KEPT) or "{}")
    called = {
        name: Called(keys=frozenset(one["keys"]), times=one["times"], last=one["last"])
        for name, one in kept.get("called", {}).items()
    }
    return called, kept.get("digested", "")


def _text(called: dict[str, Called], digested: str) -> str:
    kept = {name: {"keys": sorted(one.keys), "times": one.times, "last": one.last} for name, one in called.items()}
    return json.dumps({"called": kept, "digested": digested})
