"""The colours of everything, with sign and word for each flow of energy: pages, plots, bills, Grafana and the terminal.

The colours of a theme differ by at least 12 hundredths in OKLab, also for people who see no red, no green or no blue,
and stand out from the page (WCAG 2.2, 1.4.11). Where a flow leaves a place, it has the colour of its source.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


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
