"""The demonstration's live table: the state of every microgrid, from the parts' /status pages."""

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any, Literal
from zoneinfo import ZoneInfo

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from commonwatt.config.files import load_settings
from commonwatt.config.parts import settings_of
from commonwatt.demo.layout import Layout
from commonwatt.demo.parts import Part
from commonwatt.demo.supervisor import Supervisor
from commonwatt.doctor.running import local_headers

# Real seconds within which a part must answer on a busy machine; a part that is restarting shows as a dash.
ASK_WITHIN_S = 2.0
NARROW = 110  # terminal width below which the table shows less of each microgrid

_COLUMNS = (
    "microgrid",
    "power",
    "made",
    "acknowledged",
    "relayed",
    "stored",
    "backlog",
    "lag",
    "line",
    "batteries",
    "sharing",
)

Status = dict[str, Any]


class Observer:
    """Requests the status of all parts at the same time."""

    def __init__(self, layout: Layout) -> None:
        self.seen: dict[str, Status] = {}  # the last answer of each part, by its name; kept while it does not answer
        self.silent: set[str] = set()  # parts that did not answer the last request
        self._lapses = 0
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
                self._lapses += (count := answer.get("lapses", 0)) - (last if count >= last else 0)
                self.seen[part.name] = answer

    @property
    def lapses(self) -> int:
        """States of meters that ended before their gateways renewed them, as the answers counted them."""
        return self._lapses

    def _ask(self, part: Part) -> Status | None:
        try:
            if part.name not in self._headers:
                settings = load_settings(part.config, part.kind, settings_of(part.kind))
                self._headers[part.name] = local_headers(settings)
            url = f"http://{part.http}/status"
            request = urllib.request.Request(url, headers=self._headers[part.name])
            with urllib.request.urlopen(request, timeout=ASK_WITHIN_S) as answer:  # noqa: S310
                status: Status = json.load(answer)
                return status
        except (OSError, ValueError, HTTPException):  # HTTPException: it was killed in the middle of its answer
            return None

    def close(self) -> None:
        """Stop the requests."""
        self._pool.shutdown(cancel_futures=True)

    def arrived(self) -> int:
        """Return how much has arrived: records at the gateways, and slots at the utility, by the last answers."""
        return sum(
            self.seen.get(f"{name} {kind}", {}).get(key, 0)
            for name in self._layout.town.microgrids
            for kind, key in (("meters", "acknowledged"), ("gateway", "relayed_slots"))
        )

    def drained(self) -> bool:
        """Whether every meter and every gateway has an empty backlog in its last status."""
        names = list(self._layout.town.microgrids)
        if any(
            f"{name} {kind}" in self.silent or f"{name} {kind}" not in self.seen
            for name in names
            for kind in ("meters", "gateway")
        ):
            return False
        return all(
            not self.seen[f"{name} meters"]["held"]
            and not self.seen[f"{name} meters"]["events_held"]
            and not any(self.seen[f"{name} gateway"]["backlog"].values())
            for name in names
        )


def draw(
    layout: Layout, observer: Observer, supervisor: Supervisor, width: int | None = None, speed: float | None = None
) -> Group:
    """Draw the table and the lines around it.

    Args:
        layout: The town.
        observer: The last status of each part.
        supervisor: Their processes.
        speed: Town seconds in a real second at present; ``None``: as the town's clock has them.
        width: Columns of the terminal; ``None``: unlimited.
    """
    narrow = width is not None and width < NARROW
    lines: list[RenderableType] = [_processes(supervisor, observer), _table(layout, observer, narrow=narrow)]
    if speed is not None and speed < layout.clock.speed:
        words = f"this machine can't keep up with {layout.clock.speed:g}x: the town's clock runs at {speed:.0f}x"
        lines.append(Text(words, style="yellow"))
    lines += _town(observer.seen.get("meters", {}))
    return Group(*lines, *_commands(layout, observer), _legend(narrow=narrow), *_dead_letters(layout, observer))


def _table(layout: Layout, observer: Observer, *, narrow: bool) -> Table:
    now = layout.clock.now()
    local = datetime.fromtimestamp(now, UTC).astimezone(ZoneInfo(layout.town.table.timezone))
    table = Table(
        title=f"{layout.town.table.name} · {local:%a %d %b %Y %H:%M:%S} · {layout.clock.speed:g}x",
        box=box.SIMPLE_HEAD if narrow else box.HEAVY_HEAD,
        padding=0 if narrow else (0, 1),
        show_edge=not narrow,
        expand=not narrow,
    )
    # Acknowledged records are the records made minus the backlog: this column is dropped first on a narrow terminal.
    columns = [column for column in _COLUMNS if not (narrow and column in ("power", "acknowledged", "line"))]
    wide = {"power": "kW: use, sun, import", "batteries": "batteries: level / minimum", "line": "LTE: MB up + down"}
    headings = {"microgrid": "grid"} if narrow else wide
    for column in columns:
        justify: Literal["left", "right"] = "left" if column in ("microgrid", "batteries", "sharing") else "right"
        table.add_column(headings.get(column, column), justify=justify, no_wrap=narrow)
    stored = observer.seen.get("utility", {}).get("microgrids", {})
    for name in layout.town.microgrids:
        meters = observer.seen.get(f"{name} meters", {})
        gateway = observer.seen.get(f"{name} gateway", {})
        backlog = gateway.get("backlog", {})
        cells: dict[str, str | Text] = {
            "microgrid": name,
            "power": _power(meters),
            "made": _number(meters.get("made")),
            "acknowledged": _number(meters.get("acknowledged")),
            "relayed": _number(gateway.get("relayed_slots")),
            "stored": _number(stored.get(name, {}).get("received_slots")),
            "backlog": f"{meters.get('held', 0):,} + {backlog.get('parts', 0):,}",
            "lag": f"{meters.get('lag_s', 0):.0f} s",
            "line": _line(gateway),
            "batteries": _lowest(gateway) if narrow else _batteries(gateway),
            "sharing": _sharing_counts(gateway) if narrow else _sharing(gateway),
        }
        table.add_row(*(cells[column] for column in columns))
    return table


def _town(town: Status) -> list[Text]:
    """Return the line of the whole town: power, sun, the plant and its line to the regional grid."""
    if "power" not in town:
        return []
    power, plant = town["power"], town["plant"]
    text = Text(f"town: {_kw(power['load_w'])} kW used, {_kw(power['sun_w'])} kW of sun ({town['sun_percent']:.0f} %)")
    if plant is not None:
        level = 100 * plant["level"] / plant["capacity"] if plant["capacity"] else 0.0
        text.append(f" · plant {level:.1f} %, {_kw(plant['battery_w'])} kW into it")
        text.append(f" · {_kw(plant['bought_w'])} kW bought at {plant['price_permille'] / 10:.0f} %")
        text.append(" · supply ").append(plant["supply"], style="green" if plant["supply"] == "NORMAL" else "red")
        if not plant["voltage"]:
            text.append(" · the regional line is dead", style="red")
    return [text]


def _power(meters: Status) -> str:
    power = meters.get("power")
    return "-" if power is None else ", ".join(_kw(power[key]) for key in ("load_w", "sun_w", "import_w"))


def _kw(watts: float) -> str:
    return f"{watts / 1000:.1f}"


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "-"


def _line(gateway: Status) -> str:
    """Return the use of the controller's LTE line this month, up + down in MB."""
    used = gateway.get("lte", {}).get("used")
    return "-" if used is None else " + ".join(f"{each / 1e6:.1f}" for each in used)


def _batteries(gateway: Status) -> Text:
    text = Text()
    batteries = sorted(gateway.get("batteries", {}).items())
    for meter, battery in batteries[:12]:
        level, minimum, style = _level(battery)
        text.append(f"{_short(meter)}:{level:.0f}", style=style)
        text.append(f"/{minimum:.0f} ")
    if len(batteries) > 12:
        text.append(f"and {len(batteries) - 12} more")
    return text


def _lowest(gateway: Status) -> Text:
    """Return the number of batteries, and the lowest of them."""
    batteries = gateway.get("batteries", {})
    text = Text(f"{len(batteries)}" if batteries else "-")
    if batteries:
        meter = min(sorted(batteries), key=lambda meter: _level(batteries[meter])[0])
        level, minimum, style = _level(batteries[meter])
        text.append(f", lowest {_short(meter)}: ").append(f"{level:.0f}", style=style).append(f"/{minimum:.0f}")
    return text


def _level(battery: dict[str, float]) -> tuple[float, float, str]:
    """Return level and minimum in percent, and the colour of their relation."""
    level, minimum = (100 * battery[key] / battery["capacity"] for key in ("level", "minimum"))
    return level, minimum, "red" if level < minimum else "yellow" if level < minimum + 5 else "green"


def _sharing_counts(gateway: Status) -> str:
    return f"{len(gateway.get('donors', []))} > {len(gateway.get('receivers', []))}"


def _sharing(gateway: Status) -> str:
    donors, receivers = gateway.get("donors", []), gateway.get("receivers", [])
    if not donors:
        return "none" if not receivers else f"no donor; in need: {' '.join(map(_short, receivers))}"
    return f"{' '.join(map(_short, donors))} > {' '.join(map(_short, receivers))}"


def _short(meter: str) -> str:
    """Return a meter's number within its microgrid; the row names the microgrid."""
    return meter[-4:].lstrip("0") or meter


def _commands(layout: Layout, observer: Observer) -> list[Text]:
    notes = [
        (note["time"], f"{name} {note['meter']} {note['cmd']}: {note['result']}")
        for name in layout.town.microgrids
        for note in observer.seen.get(f"{name} gateway", {}).get("last_commands", [])
        if note["cmd"] != "initialize"
    ]
    notes.sort(reverse=True)
    return [Text(f"  {text} ({layout.clock.now() - time:.0f} town s ago)", style="dim") for time, text in notes[:5]]


def _processes(supervisor: Supervisor, observer: Observer) -> Text:
    restarts = sum(running.restarts for running in supervisor.running.values())
    text = Text(f"{len(supervisor.running)} processes, {restarts} restarts")
    if observer.silent:
        text.append(f"; not answering: {', '.join(sorted(observer.silent))}", style="red")
    return text


def _dead_letters(layout: Layout, observer: Observer) -> list[Text]:
    """Return a line with the number of dead letters, at the utility or in a gateway's backlog."""
    stored = observer.seen.get("utility", {}).get("totals", {}).get("dead_letters", 0)
    gateways = (observer.seen.get(f"{name} gateway", {}) for name in layout.town.microgrids)
    dead_letters = stored + sum(gateway.get("backlog", {}).get("dead_letters", 0) for gateway in gateways)
    if not dead_letters:
        return []
    return [
        Text(
            f"{dead_letters:,} dead letter{'' if dead_letters == 1 else 's'}: see commonwatt utility dead-letters",
            style="yellow",
        )
    ]


def _legend(*, narrow: bool) -> Text:
    if narrow:
        text = "made: records · relayed, stored: slots · batteries: how many, lowest number: level/minimum in %"
        text += " · sharing: donors > receivers · backlog: records at meters + parts at the gateway · Ctrl-C stops"
    else:
        text = (
            "made, acknowledged: records · relayed, stored: slots · backlog: records at meters + parts at the gateway"
        )
        text += " · battery: number:level/minimum in % · Ctrl-C stops"
    return Text(text, style="dim")
