"""A town of three controllers that take over for each other, and what its meters obey when one is lost."""

import json
import math
import subprocess
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commonwatt.protocol.commands import Epoch
from commonwatt.protocol.topics import UTILITY
from commonwatt.site.places import HEAD_END
from commonwatt.town.town import Function
from commonwatt.town.town import Town as Registered
from harness.clique.real.namespaces import Machines
from harness.clique.real.register import registered
from harness.clique.real.watched import Commanded, read
from harness.network.waiting import ended, eventually

NAMES = ("r001", "r002", "r003")
METERS = "meters"
GATEWAY_HTTP, UTILITY_HTTP, METERS_HTTP = "127.0.0.1:9101", "127.0.0.1:8080", "127.0.0.1:9102"
STOP_WITHIN_S = 10.0
START_S = 90.0  # seconds within which all parts run and all meters are initialized
SETTLE_S = 120.0  # seconds within which all lines of the clique are known
LONG_S = 5.0  # a deadline above is one of a line that is not known, or loses beats


def gateway(name: str) -> str:
    """Return the part that is the gateway of a controller."""
    return f"{name} gateway"


def broker(name: str) -> str:
    """Return the part that is the broker of a controller."""
    return f"{name} broker"


UTILITY_PARTS = (broker(HEAD_END), UTILITY)


_open: list["Town"] = []


def stop_all() -> None:
    """End all towns at once; what looks at them then fails."""
    for town in _open:
        town.close()


class Town:
    """The town; nothing runs until it is started.

    Args:
        folder: The folder of its files; made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machines = Machines((*NAMES, UTILITY, METERS))
        _open.append(self)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.code = f"from harness.clique.real.watched import watch; watch({str(self._seen)!r})"  # before the fleet
        try:
            self.town: Registered = registered(folder, self.machines.addresses)
        except BaseException:
            self.machines.close()
            raise

    # Parts.

    @staticmethod
    def machine_of(part: str) -> str:
        """Return the machine on which a part runs."""
        place = part.split()[0]
        return UTILITY if place == HEAD_END else place

    def start(self, *parts: str) -> None:
        """Start parts; they need not answer yet."""
        for part in parts:
            place, _, kind = part.partition(" ")
            kind = kind or place
            command = [kind, "run", "--config", str(self.folder / place / f"{kind}.toml")]
            self.processes[part] = self.machines.start(
                self.machine_of(part), command, self.log(part), self.code if part == METERS else ""
            )

    def start_all(self, *, utility: bool) -> None:
        """Start all parts, the utility's or not, and wait until all meters are connected and were initialized."""
        self.start(*(UTILITY_PARTS if utility else ()), *map(broker, NAMES), METERS)
        eventually(lambda: self.status(METERS).get("connected") == self.status(METERS).get("meters", 0) > 0, START_S)
        self.start(*map(gateway, NAMES))
        self.eventually_held_by({name: name for name in NAMES}, START_S)
        if utility:
            # It grants nothing of a controller that it has not heard since its own start.
            eventually(lambda: all(map(self._is_answered, NAMES)), START_S)

    def stop(self, *parts: str) -> None:
        """Stop parts by SIGTERM; each must end cleanly."""
        for part in parts:
            self.processes[part].terminate()
        for part in parts:
            code = ended(self.processes.pop(part), STOP_WITHIN_S)
            assert code == 0, f"{part} ended with {code}: {self.log(part).read_text()[-3000:]}"

    def log(self, part: str) -> Path:
        """Return the file of a part's output."""
        return self.folder / "logs" / f"{part.replace(' ', '-')}.log"

    def died(self) -> list[str]:
        """Return the parts that ended by themselves."""
        return [part for part, process in self.processes.items() if process.poll() is not None]

    # What they say.

    def status(self, part: str) -> dict[str, Any]:
        """Return a part's status; empty while it does not answer."""
        address = METERS_HTTP if part == METERS else GATEWAY_HTTP

        def ask() -> dict[str, Any]:
            with urllib.request.urlopen(f"http://{address}/status", timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
                return found

        try:
            return self.machines.inside(self.machine_of(part), ask)
        except OSError:
            return {}

    def meters(self, microgrid: str | None = None) -> list[int]:
        """Return the meters of a microgrid, or of all, but those of the boundary, which have their controller alone."""
        grids = [self.town.microgrids[name] for name in (NAMES if microgrid is None else (microgrid,))]
        return [meter.id for grid in grids for meter in grid.meters if meter.function is not Function.BOUNDARY]

    @property
    def _seen(self) -> Path:
        return self.folder / "commanded.jsonl"

    def commanded(self, since: float = 0.0) -> list[Commanded]:
        """Return what the meters were commanded since a time of the monotonic clock."""
        return [one for one in read(self._seen) if one.at >= since]

    def holders(self) -> dict[int, str | None]:
        """Return who commanded each meter last, as the meter obeyed; ``None``: nobody so far."""
        found: dict[int, str | None] = dict.fromkeys(self.meters())
        return found | {one.meter: one.issuer for one in self.commanded() if one.obeyed}

    def settle(self, *, utility: bool) -> None:
        """Wait until each controller has known the lines to the others for a minute, so that its deadline is short."""
        try:
            eventually(lambda: all(self._knows_all(n, utility=utility) for n in NAMES), SETTLE_S)
        except AssertionError:
            seen = {name: self.status(gateway(name)).get("takeover") for name in NAMES}
            raise AssertionError(f"the lines are not known: {seen}; {self.told()}") from None

    def _is_answered(self, name: str) -> bool:
        """Return whether the utility answers a controller's beats."""
        return self.status(gateway(name))["takeover"]["others"][UTILITY]["heard_s"] is not None

    def _knows_all(self, name: str, *, utility: bool) -> bool:
        others: dict[str, dict[str, Any]] = self.status(gateway(name)).get("takeover", {}).get("others", {})
        lines = [line for other, line in others.items() if utility or other != UTILITY]
        return bool(lines) and all(line["heard_s"] is not None and line["deadline_s"] < LONG_S for line in lines)

    def eventually_held_by(self, holders: dict[str, str], within_s: float) -> None:
        """Wait until all meters of microgrids obey these controllers."""
        wanted = {meter: name for grid, name in holders.items() for meter in self.meters(grid)}
        try:
            eventually(lambda: wanted.items() <= self.holders().items(), within_s)
        except AssertionError:
            raise AssertionError(f"{holders} are not obeyed, but {self.holders()}; {self.told()}") from None

    def told(self) -> str:
        """Return the ends of all outputs, for the message of a failure."""
        logs = sorted((self.folder / "logs").iterdir())
        return "\n".join([f"ended by themselves: {self.died()}", *(f"{p.name}: {p.read_text()[-1500:]}" for p in logs)])

    def close(self) -> None:
        """End all that was started."""
        processes = list(self.processes.values())
        self.processes.clear()
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
        self.machines.close()


LOST, NEXT = NAMES[:2]  # the controller that is lost, and the one that takes over
OBEYED_S = 180.0  # seconds within which the new manager is obeyed


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was seen of one loss; times in seconds from it."""

    battery_s: float  # until the first meter with a battery obeyed the next controller
    last_s: float  # until all meters did; infinite: not waited for
    managers: tuple[str, ...]  # whom the microgrid's meters obeyed, by epoch
    broken: list[str]  # what did not hold


def look(town: Town, happens: Callable[[], object], *, all_meters: bool) -> Seen:
    """Lose the first controller of a town that runs, and wait until the next one is obeyed.

    Args:
        town: The town.
        happens: Does it.
        all_meters: Whether the last meter is waited for; otherwise the first one with a battery.
    """
    lost = time.monotonic()
    happens()
    batteries = {meter.id for meter in town.town.microgrids[LOST].meters if meter.battery is not None}

    def obeyed_s() -> dict[int, float]:
        first = dict.fromkeys(town.meters(LOST), math.inf)
        for one in town.commanded(lost):
            if one.meter in first and one.obeyed and one.issuer == NEXT:
                first[one.meter] = min(first[one.meter], one.at - lost)
        return first

    def battery_s() -> float:
        return min(at for meter, at in obeyed_s().items() if meter in batteries)

    eventually(lambda: (max(obeyed_s().values()) if all_meters else battery_s()) < math.inf, OBEYED_S)
    commanded = town.commanded()
    old = old_commands(commanded)
    broken = [f"{old} old commands were obeyed"] if old else []
    broken += [f"an epoch has two holders: {words}" for words in granted_twice(commanded)]
    broken += [f"{part} ended by itself" for part in town.died()]
    epochs = {one.epoch: one.issuer for one in commanded if one.obeyed and one.microgrid == LOST}
    return Seen(
        battery_s=battery_s(),
        last_s=max(obeyed_s().values()),
        managers=tuple(epochs[epoch] for epoch in sorted(epochs)),
        broken=broken,
    )


def old_commands(commanded: Iterable[Commanded]) -> int:
    """Return how many commands under an epoch below the meter's it obeyed."""
    highest: dict[int, Epoch] = defaultdict(lambda: (0, 0))
    count = 0
    for one in commanded:
        if one.epoch[0] and one.epoch < highest[one.meter]:
            count += one.obeyed
        elif one.obeyed:
            highest[one.meter] = one.epoch
    return count


def granted_twice(commanded: Iterable[Commanded]) -> list[str]:
    """Return the epochs that two controllers used in one microgrid."""
    issuers: dict[tuple[str, Epoch], set[str]] = defaultdict(set)
    for one in commanded:
        if one.epoch[0]:
            issuers[one.microgrid, one.epoch].add(one.issuer)
    return [f"{grid} {list(epoch)}: {sorted(names)}" for (grid, epoch), names in issuers.items() if len(names) > 1]
