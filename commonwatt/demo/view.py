"""The demonstration's live table: the state of every microgrid, from the parts' /status pages."""

import json
import time
import urllib.request
from collections import deque
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cached_property
from http.client import HTTPException
from typing import Any, Literal
from zoneinfo import ZoneInfo

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from commonwatt.config.files import load_settings
from commonwatt.config.parts import settings_of
from commonwatt.demo.large.view import arrived, is_drained, large_legend, large_table
from commonwatt.demo.layout import Layout
from commonwatt.demo.parts import Part
from commonwatt.demo.stage import Seen, few
from commonwatt.demo.supervisor import Supervisor
from commonwatt.doctor.running import local_headers
from commonwatt.look.palette import LOOKS, PowerFlow
from commonwatt.model.units import QUARTER_S, EpochSeconds, MicrogridId

# Real seconds within which a part must answer on a busy machine; a part that is restarting shows as a dash.
ASK_WITHIN_S = 2.0
STORED_EVERY_S = 4.0  # real seconds between two counts of stored slots: a count reads all blocks of the run
STORED_IN_LARGE_EVERY_S = 60.0  # the same in a large town
LATE_S = 900  # age in town seconds from which a reading that is not stored is late; in real seconds a sixtieth of it
WEEK_S = 7 * 86_400  # the longest time range of one count
NARROW = 110  # terminal width below which the table shows less of each microgrid
_QUIET = ("initialize", "put", "get")  # commands of the machinery, which no visitor looks for

_COLUMNS = ("microgrid", "power", "made", "stored", "again", "waiting", "lag", "line", "batteries", "sharing")

Status = dict[str, Any]


class Observer:
    """Requests the status of all parts at the same time."""

    def __init__(self, layout: Layout) -> None:
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

    def _ask(self, part: Part, path: str = "/status") -> Status | None:
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


def draw(
    layout: Layout, observer: Observer, supervisor: Supervisor, width: int | None = None, speed: float | None = None
) -> Group:
    """Draw the table and the lines around it.

    Args:
        speed: Town seconds in a real second at present; ``None``: as the town's clock has them.
        width: Columns of the terminal; ``None``: unlimited.
    """
    narrow = width is not None and width < NARROW
    audit = Text(observer.audit, "green" if observer.is_good else "yellow")
    if layout.large:
        stored = sum(observer.stored.values())
        utility = observer.seen.get("utility", {})
        table = large_table(_title(layout), utility, observer.hosts, observer.fleets, stored)
        return Group(
            _processes(supervisor, observer), table, *_town(observer.fleets.get("fleet 1", {})), audit, large_legend()
        )
    lines: list[RenderableType] = [_processes(supervisor, observer), _table(layout, observer, narrow=narrow)]
    if speed is not None and speed < layout.clock.speed:
        words = f"this machine can't keep up with {layout.clock.speed:g}x: the town's clock runs at {speed:.0f}x"
        lines.append(Text(words, style="yellow"))
    lines += [*_town(observer.seen.get("meters", {})), audit]
    commands = _commands(layout, observer, 2 if narrow else 5)
    return Group(*lines, *commands, _legend(narrow=narrow), *_dead_letters(layout, observer))


def _title(layout: Layout) -> str:
    local = datetime.fromtimestamp(layout.clock.now(), UTC).astimezone(ZoneInfo(layout.town.table.timezone))
    return f"{layout.town.table.name} · {local:%a %d %b %Y %H:%M:%S} · {layout.clock.speed:g}x"


def _table(layout: Layout, observer: Observer, *, narrow: bool) -> Table:
    table = Table(
        title=_title(layout),
        box=box.SIMPLE_HEAD if narrow else box.HEAVY_HEAD,
        padding=0 if narrow else (0, 1),
        show_edge=not narrow,
        expand=not narrow,
    )
    # The line's use is dropped on a narrow terminal, and power: the town's sum stands below the table.
    columns = [column for column in _COLUMNS if not (narrow and column in ("power", "line"))]
    headings = {"microgrid": "grid"} if narrow else {"power": "kW", "line": "LTE: MB up + down"}
    for column in columns:
        left = column in ("microgrid", "power", "batteries", "sharing")
        justify: Literal["left", "right"] = "left" if left else "right"
        table.add_column(headings.get(column, column), justify=justify, no_wrap=narrow or column == "power")
    for name in layout.town.microgrids:
        cells = _cells(name, observer, narrow=narrow)
        table.add_row(*(cells[column] for column in columns))
    return table


def _cells(name: MicrogridId, observer: Observer, *, narrow: bool) -> dict[str, str | Text]:
    meters, gateway = observer.seen.get(f"{name} meters", {}), observer.seen.get(f"{name} gateway", {})
    utility = observer.seen.get("utility", {}).get("microgrids", {})
    backlog, stored = gateway.get("backlog", {}), observer.stored.get(name)
    received = utility.get(name, {}).get("received_slots")
    manager = observer.manager(name)
    return {
        "microgrid": name if manager in (None, name) else Text(f"{name} by {manager}", style="yellow"),
        "power": _power(meters),
        "made": _number(meters.get("made")),
        "stored": _number(stored),
        "again": _number(None if stored is None or received is None else max(0, received - stored)),
        "waiting": f"{meters.get('held', 0):,} + {backlog.get('parts', 0):,}",
        "lag": f"{meters.get('lag_s', 0):.0f} s",
        "line": _line(gateway),
        "batteries": _batteries(gateway, observer),
        "sharing": _sharing(gateway, observer, narrow=narrow),
    }


def _flow(flow: PowerFlow, words: str) -> Text:
    """Return words after the sign of a flow, which has its colour."""
    return Text(LOOKS[flow].sign, style=LOOKS[flow].dark).append(f" {words}", style="default")


def _town(town: Status) -> list[Text]:
    """Return the line of the whole town: power, sun, the plant and its line to the regional grid."""
    if "power" not in town:
        return []
    power, plant = town["power"], town["plant"]
    parts = [_flow(PowerFlow.USE, f"{_kw(power['load_w'])} kW used")]
    parts.append(_flow(PowerFlow.SUN, f"{_kw(power['sun_w'])} kW of sun"))
    if plant is not None:
        level = 100 * plant["level"] / plant["capacity"] if plant["capacity"] else 0.0
        way = "into it" if plant["battery_w"] >= 0 else "out of it"
        words = f"plant {level:.1f} % full, {_kw(abs(plant['battery_w']))} kW {way}"
        parts.append(_flow(PowerFlow.PLANT, words))
        verb = "buys" if plant["bought_w"] >= 0 else "sells"
        words = f"{verb} {_kw(abs(plant['bought_w']))} kW at {plant['price_permille'] / 10:.0f} % of its off-peak price"
        parts.append(_flow(PowerFlow.GRID, words))
        short = Text("regional supply ").append(plant["supply"], "green" if plant["supply"] == "NORMAL" else "red")
        parts.append(short)
        if not plant["voltage"]:
            parts.append(Text("the regional line is dead", style="red"))
    return [Text("town: ").append_text(Text(" · ").join(parts))]


def _power(meters: Status) -> Text:
    """Return a microgrid's use and sun, and what it takes from the town or gives to it."""
    power = meters.get("power")
    if power is None:
        return Text("-")
    verb = "takes" if power["import_w"] >= 0 else "gives"
    parts = [_flow(PowerFlow.USE, _kw(power["load_w"])), _flow(PowerFlow.SUN, _kw(power["sun_w"]))]
    return Text("  ").join([*parts, _flow(PowerFlow.PLANT, f"{verb} {_kw(abs(power['import_w']))}")])


def _kw(watts: float) -> str:
    return f"{watts / 1000:.1f}"


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "-"


def _line(gateway: Status) -> str:
    """Return the use of the controller's LTE line this month, up + down in MB."""
    used = gateway.get("lte", {}).get("used")
    return "-" if used is None else " + ".join(f"{each / 1e6:.1f}" for each in used)


def _batteries(gateway: Status, observer: Observer) -> Text:
    """Return the number of batteries, and the one that is lowest beside its minimum."""
    batteries = {meter: one for meter, one in gateway.get("batteries", {}).items() if "level" in one}
    text = Text(f"{len(batteries)}" if batteries else "-")
    if batteries:
        above = {meter: _level(one)[0] - _level(one)[1] for meter, one in batteries.items()}
        meter = min(sorted(batteries), key=above.__getitem__)
        level, minimum, style = _level(batteries[meter])
        text.append(f", lowest {observer.called([meter])[0]} ").append(f"{level:.0f}", style=style).append(
            f"/{minimum:.0f}"
        )
    return text


def _level(battery: dict[str, float]) -> tuple[float, float, str]:
    """Return level and minimum in percent, and the colour of their relation."""
    level, minimum = (100 * battery[key] / battery["capacity"] for key in ("level", "minimum"))
    return level, minimum, "red" if level < minimum else "yellow" if level < minimum + 5 else "green"


def _sharing(gateway: Status, observer: Observer, *, narrow: bool) -> Text:
    donors, receivers = (observer.called(gateway.get(key, [])) for key in ("donors", "receivers"))
    if narrow:
        return Text(f"{len(donors)} > {len(receivers)}")
    if not receivers:
        return Text("none")
    if not donors:
        return Text(f"no battery can give to {few(receivers)}")
    giving = donors[0] if len(donors) == 1 else f"{len(donors)} batteries"
    return _flow(PowerFlow.NEIGHBOURS, f"{giving} to {few(receivers)}")


def _commands(layout: Layout, observer: Observer, most: int) -> list[Text]:
    notes = [
        (note["time"], f"{name} {observer.called([note['meter']])[0]} {note['cmd']}: {note['result']}")
        for name in layout.town.microgrids
        for note in observer.seen.get(f"{name} gateway", {}).get("last_commands", [])
        if note["cmd"] not in _QUIET
    ]
    notes.sort(reverse=True)
    return [Text(f"  {text} ({layout.clock.now() - at:.0f} town s ago)", style="dim") for at, text in notes[:most]]


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
            f"{dead_letters:,} dead letter{'' if dead_letters == 1 else 's'}: see commonwatt show dead-letters",
            style="yellow",
        )
    ]


def _legend(*, narrow: bool) -> Text:
    text = "made: readings of 15 s · stored: at the utility, each once · again: received once more"
    text += " · waiting: at meters + parts at the gateway · batteries: level/minimum in % of the one lowest beside it"
    if narrow:
        return Text(f"{text} · sharing: giving > receiving · Ctrl-C stops", style="dim")
    signs = {PowerFlow.USE: "use", PowerFlow.SUN: "sun", PowerFlow.PLANT: "taken from the town or given to it"}
    words = ", ".join(f"{LOOKS[flow].sign} {words}" for flow, words in signs.items())
    return Text(f"{text} · kW: {words} · Ctrl-C stops", style="dim")
