"""The colours of everything, with sign and word for each flow of energy, and power now as one picture.

The colours of a theme differ by at least 12 hundredths in OKLab, also for people who see no red, no green or no blue,
and stand out from the page (WCAG 2.2, 1.4.11). Where a flow leaves a place, it has the colour of its source.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from html import escape
from pathlib import Path

from commonwatt.look.writing import DOLLARS, Writing


class PowerFlow(StrEnum):
    """Where energy comes from, or goes."""

    SUN = "sun"
    BATTERY = "battery"
    NEIGHBOURS = "neighbours"
    PLANT = "plant"  # the town's plant
    GRID = "grid"  # the regional grid
    USE = "use"


@dataclass(frozen=True, kw_only=True)
class Shade:
    """A colour."""

    light: str  # on a white page
    dark: str  # on a dark page


@dataclass(frozen=True, kw_only=True)
class FlowLook(Shade):
    """How a flow looks."""

    words: str  # its name for people
    sign: str  # a sign that says the same without colour


LOOKS: Mapping[PowerFlow, FlowLook] = {
    PowerFlow.SUN: FlowLook(words="sun", sign="☀", light="#ce8402", dark="#f8b94b"),
    PowerFlow.BATTERY: FlowLook(words="batteries", sign="▮", light="#006618", dark="#109554"),
    PowerFlow.NEIGHBOURS: FlowLook(words="neighbours", sign="⇄", light="#1aa4ac", dark="#50dae6"),
    PowerFlow.PLANT: FlowLook(words="the town's plant", sign="⬢", light="#4700a6", dark="#8861d0"),
    PowerFlow.GRID: FlowLook(words="the regional grid", sign="≋", light="#726179", dark="#9e9ba9"),
    PowerFlow.USE: FlowLook(words="use", sign="⌂", light="#1762df", dark="#6fa2ff"),
}


STATES: Mapping[str, Shade] = {
    "good": Shade(light="#0a6b2f", dark="#5fd38a"),
    "warning": Shade(light="#8a5300", dark="#ffb454"),
    "bad": Shade(light="#b3001b", dark="#ff8a8a"),
    "idle": Shade(light="#5a6472", dark="#a9b3c1"),
}
"""By state; a shape and a word stand beside each."""

SURFACES: Mapping[str, Shade] = {
    "ground": Shade(light="#f5f6f8", dark="#0d1219"),  # behind everything
    "card": Shade(light="#ffffff", dark="#151c26"),
    "line": Shade(light="#e4e7ec", dark="#263041"),  # between things
    "edge": Shade(light="#8691a3", dark="#66738a"),  # around what a person fills in
    "ink": Shade(light="#131a26", dark="#eef2f7"),
    "soft": Shade(light="#566072", dark="#a9b4c4"),  # words of the second rank
    "accent": Shade(light="#1f5fd6", dark="#7fb0ff"),  # what can be pressed
    "on-accent": Shade(light="#ffffff", dark="#0d1219"),
    "wash": Shade(light="#eef3fe", dark="#1a2638"),  # behind what is chosen
    "shade": Shade(light="#1018280f", dark="#00000000"),  # of a card's shadow
}
"""Of pages: what lies behind, between and upon things."""

LINES: tuple[Shade, ...] = (
    Shade(light="#0b5cad", dark="#7db8ff"),
    Shade(light="#a35200", dark="#ffa14a"),
    Shade(light="#1c6b3a", dark="#6fd398"),
    Shade(light="#8a1a6b", dark="#f39bd8"),
    Shade(light="#6a51a3", dark="#bfaaff"),
    Shade(light="#7a5c00", dark="#d6c06a"),
)
"""Of lines that are no flow of energy, in their order; dashes tell them apart besides."""

BRAND = "#00bb66"  # the sign of the console


def stylesheet() -> str:
    """Return CSS for both themes: a property for each colour, such as ``--flow-sun``, a class that sets it, flows."""
    flows = {f"flow-{flow}": look for flow, look in LOOKS.items()}
    lines = {f"plot-{number}": shade for number, shade in enumerate(LINES, 1)}
    shades: dict[str, Shade | FlowLook] = {**flows, **STATES, **SURFACES, **lines}
    light = " ".join(f"--{name}: {shade.light};" for name, shade in shades.items())
    dark = " ".join(f"--{name}: {shade.dark};" for name, shade in shades.items())
    light += "".join(f' --sign-{flow}: "{look.sign}";' for flow, look in LOOKS.items())
    flows_css = Path(__file__).with_name("flows.css").read_text(encoding="utf-8")
    classes = " ".join(f".flow-{flow} {{ --flow: var(--flow-{flow}); }}" for flow in LOOKS)
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n{classes}\n{flows_css}"


_PLACES = {
    PowerFlow.SUN: (70, 84),
    PowerFlow.BATTERY: (70, 236),
    PowerFlow.PLANT: (430, 84),
    PowerFlow.GRID: (430, 236),
}
_MIDDLE = (250, 160)
_LEAST = 0.01  # of the use: less is drawn as a dotted line, so that the picture stays calm


def parts_of(
    *, sun_w: float, use_w: float, import_w: float, export_w: float, between_w: float
) -> list[tuple[PowerFlow, float, bool]]:
    """Return where power comes from or goes: the flow, watts, and whether it goes to the homes.

    What homes gave each other went to neighbours; the rest went to the plant or came from it.
    """
    plant = import_w - export_w
    found = ((PowerFlow.SUN, sun_w), (PowerFlow.BATTERY, use_w - sun_w - plant), (PowerFlow.PLANT, plant))
    return [*((flow, abs(watts), watts >= 0) for flow, watts in found), (PowerFlow.NEIGHBOURS, between_w, True)]


def sign_of(flow: PowerFlow) -> str:
    """Return the sign of a flow as a mark around the origin."""
    return f'<text y="-6" class="sign">{LOOKS[flow].sign}</text>'


def flow_picture(
    use_w: float,
    parts: Iterable[tuple[PowerFlow, float, bool]],
    *,
    through_w: float | None = None,
    full: Mapping[PowerFlow, float] | None = None,
    looks: Mapping[PowerFlow, FlowLook] = LOOKS,
    is_old: bool = False,
    mark: Callable[[PowerFlow], str] = sign_of,
    writing: Writing = DOLLARS,
) -> str:
    """Return the picture; lines are as wide as the power is large, and dots run along them.

    Args:
        use_w: What is used, watts.
        parts: The other flows: watts, and whether they go to the middle.
        through_w: What the plant takes from the regional grid; below 0: what it gives; ``None``: there is none.
        full: How full a flow's battery is, 0 to 1.
        is_old: Whether it is grey, since it is of a time before.
        mark: Returns what stands for a flow in its circle, around the origin.
        writing: How its words and numbers are written.
    """
    words = {flow: writing.say(look.words) for flow, look in looks.items()}
    node = partial(_node, words=words, mark=mark, writing=writing)
    most, drawn, said = max(use_w, 1), [], [f"{words[PowerFlow.USE]} {_kw(use_w, writing)}"]
    for flow, watts, towards in parts:
        way = "from {words} {power}" if towards else "to {words} {power}"
        said.append(writing.say(way, words=words[flow], power=_kw(watts, writing)))
        if flow is PowerFlow.NEIGHBOURS:
            drawn += [_wire(flow, "M226 209C212 278 288 278 274 209", watts, most)]
            drawn += [f'<text x="250" y="290" class="name">{escape(words[flow])} {_kw(watts, writing)}</text>']
            continue
        (x, y), out = _PLACES[flow], 1 if _PLACES[flow][0] < _MIDDLE[0] else -1
        beside = _MIDDLE[1] + (-12 if y < _MIDDLE[1] else 12)
        course = [
            f"{x + 44 * out} {y}",
            f"{x + 88 * out} {y}",
            f"{250 - 94 * out} {beside}",
            f"{250 - 52 * out} {beside}",
        ]
        begin, one, other, end = course if towards else course[::-1]
        drawn.append(_wire(flow, f"M{begin}C{one} {other} {end}", watts, most))
        if watts > _LEAST * most:
            side = out if towards else -out
            drawn.append(f'<path class="head flow-{flow}" d="M{end}l{-13 * side} -8v16z"/>')
        gets = writing.say(", charging" if flow is PowerFlow.BATTERY else ", gets")
        drawn.append(node(flow, watts, full=(full or {}).get(flow), gets="" if towards or not watts else gets))
    if through_w is not None:
        takes = through_w > 0
        power = _kw(abs(through_w), writing)
        said.append(f"the plant {'takes from' if takes else 'gives to'} {looks[PowerFlow.GRID].words} {power}")
        source, path = (PowerFlow.GRID, "M430 192V128") if takes else (PowerFlow.PLANT, "M430 128V192")
        drawn += [_wire(source, path, abs(through_w), most), node(PowerFlow.GRID, abs(through_w))]
    drawn.append(node(PowerFlow.USE, use_w))
    label = escape("; ".join(said))
    head = f'class="flows{" old" * is_old}" viewBox="-50 -12 600 342" role="img" aria-label="{label}"'
    return f"<svg {head}>{''.join(drawn)}</svg>"


def _wire(flow: PowerFlow, path: str, watts: float, most: float) -> str:
    if watts <= _LEAST * most:
        return f'<path class="wire idle" d="{path}"/>'
    runs = f'<animateMotion dur="3s" repeatCount="indefinite" path="{path}"/>'
    width = min(10, max(2.5, round(10 * watts / most, 1)))
    line = f'<path class="wire flow-{flow}" d="{path}" stroke-width="{width}"/>'
    return f'{line}<circle class="runs flow-{flow}" r="5">{runs}</circle>'


def _node(
    flow: PowerFlow,
    watts: float,
    *,
    words: Mapping[PowerFlow, str],
    mark: Callable[[PowerFlow], str],
    writing: Writing,
    full: float | None = None,
    gets: str = "",
) -> str:
    is_use = flow is PowerFlow.USE
    x, y = _MIDDLE if is_use else _PLACES[flow]
    inside = f'<circle r="{54 if is_use else 44}"/>{mark(flow)}<text y="17">{_kw(watts, writing)}</text>'
    name = escape(words[flow]) + gets
    if full is not None:
        bar = '<rect class="{}" x="-22" y="24" width="{}" height="6" rx="3"/>'
        inside += bar.format("track", 44) + bar.format("level", round(44 * full, 1))
        name += f'<tspan x="0" dy="1.2em">{round(100 * full)} %</tspan>'
    above = -66 if is_use else (-56 if full is None else -76) if y < _MIDDLE[1] else 64
    above_it = f'<text y="{above}" class="name">{name}</text>'
    return f'<g class="flow-{flow}" transform="translate({x} {y})">{inside}{above_it}</g>'


def _kw(watts: float, writing: Writing) -> str:
    return writing.number(f"{watts / 1000:,.1f} kW")
