"""The demonstration's live table: what every microgrid does now, asked of the parts' own /status pages."""

import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Group
from rich.table import Table
from rich.text import Text

from commonwatt.demo.layout import Layout
from commonwatt.demo.supervisor import Supervisor

ASK_WITHIN_S = 0.5
"""Real seconds a part has to answer; one that is just being started again shows as a dash."""

Status = dict[str, Any]


class Observer:
    """Asks the parts how they are, all at once.

    Attributes:
        seen: The last answer of each part, by its name; kept while it does not answer.
        silent: Parts that did not answer the last time.
    """

    def __init__(self, layout: Layout) -> None:
        self.seen: dict[str, Status] = {}
        self.silent: set[str] = set()
        self._layout = layout
        self._pool = ThreadPoolExecutor(max_workers=8)

    def look(self) -> None:
        """Ask every part once."""
        parts = [part for part in self._layout.parts if part.http is not None]
        answers = self._pool.map(lambda part: _ask(f"http://{part.http}/status"), parts)
        self.silent = set()
        for part, answer in zip(parts, answers, strict=True):
            if answer is None:
                self.silent.add(part.name)
            else:
                self.seen[part.name] = answer

    def close(self) -> None:
        """Stop asking."""
        self._pool.shutdown(cancel_futures=True)

    def drained(self) -> bool:
        """Whether, as far as the last answers tell, no meter and no gateway holds anything back."""
        names = list(self._layout.town.microgrids)
        if any(
            f"{name} {kind}" in self.silent or f"{name} {kind}" not in self.seen
            for name in names
            for kind in ("meters", "gateway")
        ):
            return False
        return all(
            self.seen[f"{name} meters"]["held"] == 0 and not any(self.seen[f"{name} gateway"]["backlog"].values())
            for name in names
        )


def _ask(url: str) -> Status | None:
    try:
        with urllib.request.urlopen(url, timeout=ASK_WITHIN_S) as answer:  # noqa: S310 - our own loopback address
            status: Status = json.load(answer)
            return status
    except (OSError, ValueError, urllib.error.URLError):
        return None


def draw(layout: Layout, observer: Observer, supervisor: Supervisor) -> Group:
    """Draw the table and the lines below it."""
    now = layout.clock.now()
    local = datetime.fromtimestamp(now, UTC).astimezone(ZoneInfo(layout.town.table.timezone))
    table = Table(
        title=f"{layout.town.table.name} · {local:%a %d %b %Y %H:%M:%S} · {layout.clock.speed:g}x", expand=True
    )
    for heading in (
        "microgrid",
        "made",
        "acknowledged",
        "relayed",
        "stored",
        "backlog",
        "lag",
        "batteries: level / minimum",
        "sharing",
    ):
        table.add_column(heading, justify="left" if heading[:3] in ("mic", "bat", "sha") else "right")
    stored = observer.seen.get("utility", {}).get("microgrids", {})
    for name in layout.town.microgrids:
        meters = observer.seen.get(f"{name} meters", {})
        gateway = observer.seen.get(f"{name} gateway", {})
        backlog = gateway.get("backlog", {})
        table.add_row(
            name,
            _number(meters.get("made")),
            _number(meters.get("acknowledged")),
            _number(gateway.get("relayed_slots")),
            _number(stored.get(name, {}).get("received_slots")),
            f"{meters.get('held', 0):,} + {backlog.get('parts', 0):,}",
            f"{meters.get('lag_s', 0):.0f} s",
            _batteries(gateway),
            _sharing(gateway),
        )
    return Group(table, *_commands(layout, observer), _processes(supervisor, observer), _legend())


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "-"


def _batteries(gateway: Status) -> Text:
    text = Text()
    batteries = sorted(gateway.get("batteries", {}).items())
    for meter, battery in batteries[:12]:
        level = 100 * battery["level"] / battery["capacity"]
        minimum = 100 * battery["minimum"] / battery["capacity"]
        style = "red" if level < minimum else "yellow" if level < minimum + 5 else "green"
        text.append(f"{_short(meter)}:{level:.0f}", style=style)
        text.append(f"/{minimum:.0f} ")
    if len(batteries) > 12:
        text.append(f"and {len(batteries) - 12} more")
    return text


def _sharing(gateway: Status) -> str:
    donors, receivers = gateway.get("donors", []), gateway.get("receivers", [])
    if not donors:
        return "nobody" if not receivers else f"nobody can; in need: {' '.join(map(_short, receivers))}"
    return f"{' '.join(map(_short, donors))} > {' '.join(map(_short, receivers))}"


def _short(meter: str) -> str:
    """The number within its microgrid is enough beside the microgrid's name."""
    return meter[-4:].lstrip("0") or meter


def _commands(layout: Layout, observer: Observer) -> list[Text]:
    notes = [
        (note["time"], f"{name} {note['meter']} {note['cmd']}: {note['result']}")
        for name in layout.town.microgrids
        for note in observer.seen.get(f"{name} gateway", {}).get("last_commands", [])
        if note["cmd"] != "initialize"
    ]
    notes.sort(reverse=True)
    return [Text(f"  {text} ({layout.clock.now() - time:.0f} s ago)", style="dim") for time, text in notes[:5]]


def _processes(supervisor: Supervisor, observer: Observer) -> Text:
    restarts = sum(running.restarts for running in supervisor.running.values())
    text = Text(f"{len(supervisor.running)} processes, {restarts} restarts")
    if observer.silent:
        text.append(f"; not answering: {', '.join(sorted(observer.silent))}", style="red")
    return text


def _legend() -> Text:
    return Text(
        "made, acknowledged: records · relayed, stored: slots · backlog: records at meters + parts at the gateway"
        " · battery: number:level/minimum in % · Ctrl-C stops",
        style="dim",
    )
