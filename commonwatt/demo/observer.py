"""What a demonstration's parts say on their /status pages: what is made, stored and late, who manages and shares."""

import json
import time
import urllib.request
from collections import deque
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from http.client import HTTPException
from typing import Any

from commonwatt.config.files import load_settings
from commonwatt.config.settings import settings_of
from commonwatt.demo.large import arrived, is_drained
from commonwatt.demo.layout import DemoFolder
from commonwatt.demo.stage import Seen
from commonwatt.doctor.running import local_headers
from commonwatt.model.units import QUARTER_S, EpochSeconds, MicrogridId
from commonwatt.runtime.supervisor import SupervisedPart

# Real seconds within which a part must answer on a busy machine; a part that is restarting shows as a dash.
ASK_WITHIN_S = 2.0
STORED_EVERY_S = 4.0  # real seconds between two counts of stored slots: a count reads all blocks of the run
STORED_IN_LARGE_EVERY_S = 60.0  # the same in a large town
LATE_S = 900  # age in town seconds from which a reading that is not stored is late; in real seconds a sixtieth of it
WEEK_S = 7 * 86_400  # the longest time range of one count

Status = dict[str, Any]


class Observer:
    """Requests the status of all parts at the same time."""

    def __init__(self, layout: DemoFolder) -> None:
        self.seen: dict[str, Status] = {}  # the last answer of each part, by its name; kept while it does not answer
        self.silent: set[str] = set()  # parts that did not answer the last request
        # Slots stored of each microgrid, each once.
        self.stored: dict[str, int] = {}
        self.lapses = 0  # states of meters that ended before their gateways renewed them, as the answers counted them
        # The audit so far: whether every reading that is old enough is stored, and that in words.
        self.is_good, self.audit = True, "audit: not counted yet"
        self._made: deque[tuple[int, int]] = deque()
        self._counted = 0.0
        self._layout = layout
        self._headers: dict[str, dict[str, str]] = {}
        self._pool = ThreadPoolExecutor(max_workers=8)

    def look(self) -> None:
        """Request the status of every part once."""
        parts = [part for part in self._layout.parts if part.http is not None]
        answers = self._pool.map(self._ask, parts)
        self.silent = set()
        for part, answer in zip(parts, answers, strict=True):
            if answer is None:
                self.silent.add(part.name)
            else:
                last = self.seen.get(part.name, {}).get("lapses", 0)
                # A gateway that was started again counts from 0.
                self.lapses += (count := answer.get("lapses", 0)) - (last if count >= last else 0)
                self.seen[part.name] = answer

    def count(self, now: EpochSeconds) -> None:
        """Count the stored slots of all weeks since the folder's first run, but not more often than is cheap.

        Without an answer the last count stays. Beside statuses that were requested later, it is at most what was made.
        """
        every_s = STORED_IN_LARGE_EVERY_S if self._layout.large else STORED_EVERY_S
        if time.monotonic() < self._counted + every_s:
            return
        utility = self._layout.part("utility")
        weeks = range(self._layout.began // QUARTER_S * QUARTER_S, now + QUARTER_S, WEEK_S)
        answers = [self._ask(utility, f"/stored?start={week}&end={week + WEEK_S}") for week in weeks]
        if None not in answers:
            found = [answer["slots"] for answer in answers if answer is not None]
            names = self._layout.town.microgrids
            self.stored = {name: sum(slots.get(name, 0) for slots in found) for name in names}
            self._audit(now)
        self._counted = time.monotonic()

    def _audit(self, now: EpochSeconds) -> None:
        """Compare what was made some time ago with what is stored now."""
        late_s = LATE_S * max(1, int(self._layout.clock.speed) // 60)
        fleets = [one for name, one in self.seen.items() if name == "meters" or name.startswith("fleet ")]
        self._made.append((now, sum(one["made"] for one in fleets)))
        while len(self._made) > 1 and self._made[1][0] <= now - late_s:
            self._made.popleft()
        at, made = self._made[0]
        missing = (made if at <= now - late_s else 0) - sum(self.stored.values())
        self.is_good = missing <= 0
        many, state = ("all", "stored") if self.is_good else (f"{missing:,}", "not stored yet")
        self.audit = f"audit: {many} readings older than {late_s // 60} minutes are {state}"

    def on_stage(self) -> dict[str, Seen]:
        """Return what the gateways that answered report, with the batteries' names."""
        gateways = {name: self.seen.get(f"{name} gateway", {}) for name in self._layout.town.microgrids}
        return {
            name: Seen(
                phase=gateway["modes"]["phase"],
                manages=gateway.get("takeover", {}).get("microgrids", {}).get(name, {}).get("manages", True),
                donors=self.called(gateway["donors"]),
                receivers=self.called(gateway["receivers"]),
            )
            for name, gateway in gateways.items()
            if gateway
        }

    def called(self, meters: Sequence[str]) -> list[str]:
        """Return the names of batteries, such as ``house 5``: those of the console."""
        return [self._names.get(meter, meter) for meter in sorted(meters, key=int)]

    @cached_property
    def _names(self) -> dict[str, str]:
        return {str(meter.id): meter.location for meter in self._layout.town.meters}

    def _ask(self, part: SupervisedPart, path: str = "/status") -> Status | None:
        try:
            if part.name not in self._headers:
                settings = load_settings(part.config, part.kind, settings_of(part.kind))
                self._headers[part.name] = local_headers(settings)
            url = f"http://{part.http}{path}"
            request = urllib.request.Request(url, headers=self._headers[part.name])
            with urllib.request.urlopen(request, timeout=ASK_WITHIN_S) as answer:  # noqa: S310
                status: Status = json.load(answer)
                return status
        except (OSError, ValueError, HTTPException):  # HTTPException: it was killed in the middle of its answer
            return None

    def close(self) -> None:
        """Stop the requests."""
        self._pool.shutdown(cancel_futures=True)

    def ready(self, started: Collection[str]) -> bool:
        """Whether these parts answer; in a large town also whether all meters are connected, and no gateway is late."""
        controllers = [one for host in self.hosts.values() for one in host["controllers"].values()]
        connected = all(one["connected"] == one["meters"] for one in self.fleets.values())
        return self.silent.isdisjoint(started) and connected and all(one["state"] == "running" for one in controllers)

    @property
    def hosts(self) -> dict[str, Status]:
        """The last statuses of the hosts of a large town."""
        return {name: status for name, status in self.seen.items() if name.startswith("host ")}

    @property
    def fleets(self) -> dict[str, Status]:
        """The last statuses of the fleets of meters of a large town."""
        return {name: status for name, status in self.seen.items() if name.startswith("fleet ")}

    def arrived(self) -> int:
        """Return how much has arrived: records at the gateways, and slots at the utility, by the last answers."""
        if self._layout.large:
            return arrived(self.seen.get("utility", {}), self.fleets.values())
        seen, names = self.seen, list(self._layout.town.microgrids)
        taken: list[int] = [seen.get(f"{name} meters", {}).get("acknowledged", 0) for name in names]
        gateways = [seen.get(f"{name} gateway", {}) for name in names]
        relayed: list[int] = [each.get("relayed_slots", 0) for gateway in gateways for each in _hosts(gateway)]
        return sum(taken) + sum(relayed)

    def manager(self, name: MicrogridId) -> MicrogridId | None:
        """Return which controller says that it manages a microgrid; ``None``: none of those that answer."""
        for own in self._layout.town.microgrids:
            part = f"{own} gateway"
            takeover = {} if part in self.silent else self.seen.get(part, {}).get("takeover", {}).get("microgrids", {})
            if takeover.get(name, {}).get("manages"):
                return own
        return None

    def drained(self) -> bool:
        """Whether every meter and every gateway has an empty backlog in its last status."""
        if self._layout.large:
            utility, last = self.seen.get("utility", {}), self._layout.clock.meters_stop_at or 0
            return not self.silent and is_drained(utility, self.fleets.values(), last)
        names = list(self._layout.town.microgrids)
        if {f"{name} {kind}" for name in names for kind in ("meters", "gateway")} - (self.seen.keys() - self.silent):
            return False
        return all(
            not self.seen[f"{name} meters"]["held"]
            and not self.seen[f"{name} meters"]["events_held"]
            and not any(each["backlog"].values())
            for name in names
            for each in _hosts(self.seen[f"{name} gateway"])
        )


def _hosts(gateway: Status) -> list[Status]:
    """Return what a gateway says of its own microgrid, and of each other one that it hosts."""
    return [gateway, *gateway.get("hosted", {}).values()]
