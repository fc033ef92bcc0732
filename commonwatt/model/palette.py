"""One colour, sign and word for each flow of energy: pages, plots and printed bills take them from here.

The colours of a theme differ by at least 12 hundredths in OKLab, also for people who see no red, no green or no blue,
and stand out from the page (WCAG 2.2, 1.4.11). Where a flow leaves a place, it has the colour of its source.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class PowerFlow(StrEnum):
    """Where energy comes from, or goes."""

    SUN = "sun"
    BATTERY = "battery"
    NEIGHBOURS = "neighbours"
    PLANT = "plant"  # the town's plant
    GRID = "grid"  # the regional grid
    USE = "use"


@dataclass(frozen=True, kw_only=True)
class FlowLook:
    """How a flow looks."""

    words: str  # its name for people
    sign: str  # a sign that says the same without colour
    light: str  # its colour on a white page
    dark: str  # its colour on a dark page


LOOKS: Mapping[PowerFlow, FlowLook] = {
    PowerFlow.SUN: FlowLook(words="sun", sign="☀", light="#b87d37", dark="#de8d1c"),
    PowerFlow.BATTERY: FlowLook(words="batteries", sign="▮", light="#325e31", dark="#b4ffae"),
    PowerFlow.NEIGHBOURS: FlowLook(words="neighbours", sign="⇄", light="#00a3a3", dark="#3d8f8c"),
    PowerFlow.PLANT: FlowLook(words="the town's plant", sign="⬢", light="#78209b", dark="#9a57e8"),
    PowerFlow.GRID: FlowLook(words="the regional grid", sign="≋", light="#323333", dark="#c3c4c4"),
    PowerFlow.USE: FlowLook(words="use", sign="⌂", light="#2756eb", dark="#7ea9fd"),
}


def stylesheet() -> str:
    """Return CSS for both themes: a property for each colour, such as ``--flow-sun``, and a class that sets it."""
    light = " ".join(f"--flow-{flow}: {look.light};" for flow, look in LOOKS.items())
    dark = " ".join(f"--flow-{flow}: {look.dark};" for flow, look in LOOKS.items())
    classes = " ".join(f".flow-{flow} {{ --flow: var(--flow-{flow}); }}" for flow in LOOKS)
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n{classes}\n"
