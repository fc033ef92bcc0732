"""Power now as one picture, for every page: who uses it in the middle, where it comes from around (SVG)."""

from collections.abc import Callable, Iterable, Mapping
from html import escape

from commonwatt.look.palette import LOOKS, FlowLook, PowerFlow

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
) -> str:
    """Return the picture; lines are as wide as the power is large, and dots run along them.

    Args:
        use_w: What is used, watts.
        parts: The other flows: watts, and whether they go to the middle.
        through_w: What the plant takes from the regional grid; below 0: what it gives; ``None``: there is none.
        full: How full a flow's battery is, 0 to 1.
        is_old: Whether it is grey, since it is of a time before.
        mark: Returns what stands for a flow in its circle, around the origin.
    """
    most, drawn, said = max(use_w, 1), [], [f"{looks[PowerFlow.USE].words} {_kw(use_w)}"]
    for flow, watts, towards in parts:
        said.append(f"{'from' if towards else 'to'} {looks[flow].words} {_kw(watts)}")
        if flow is PowerFlow.NEIGHBOURS:
            drawn += [_wire(flow, "M226 209C212 278 288 278 274 209", watts, most)]
            drawn += [f'<text x="250" y="290" class="name">{escape(looks[flow].words)} {_kw(watts)}</text>']
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
            way = out if towards else -out
            drawn.append(f'<path class="head flow-{flow}" d="M{end}l{-13 * way} -8v16z"/>')
        gets = ", charging" if flow is PowerFlow.BATTERY else ", gets"
        drawn.append(_node(flow, watts, looks, mark, (full or {}).get(flow), "" if towards or not watts else gets))
    if through_w is not None:
        takes = through_w > 0
        said.append(
            f"the plant {'takes from' if takes else 'gives to'} {looks[PowerFlow.GRID].words} {_kw(abs(through_w))}"
        )
        source, path = (PowerFlow.GRID, "M430 192V128") if takes else (PowerFlow.PLANT, "M430 128V192")
        drawn += [_wire(source, path, abs(through_w), most), _node(PowerFlow.GRID, abs(through_w), looks, mark)]
    drawn.append(_node(PowerFlow.USE, use_w, looks, mark))
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
    looks: Mapping[PowerFlow, FlowLook],
    mark: Callable[[PowerFlow], str],
    full: float | None = None,
    gets: str = "",
) -> str:
    is_use = flow is PowerFlow.USE
    x, y = _MIDDLE if is_use else _PLACES[flow]
    inside = f'<circle r="{54 if is_use else 44}"/>{mark(flow)}<text y="17">{_kw(watts)}</text>'
    words = escape(looks[flow].words) + gets
    if full is not None:
        bar = '<rect class="{}" x="-22" y="24" width="{}" height="6" rx="3"/>'
        inside += bar.format("track", 44) + bar.format("level", round(44 * full, 1))
        words += f'<tspan x="0" dy="1.2em">{round(100 * full)} %</tspan>'
    above = -66 if is_use else (-56 if full is None else -76) if y < _MIDDLE[1] else 64
    name = f'<text y="{above}" class="name">{words}</text>'
    return f'<g class="flow-{flow}" transform="translate({x} {y})">{inside}{name}</g>'


def _kw(watts: float) -> str:
    return f"{watts / 1000:,.1f} kW"
