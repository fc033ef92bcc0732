"""The colours of flows: told apart by everybody, seen on both pages."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from commonwatt.look.palette import BRAND, LINES, LOOKS, STATES, PowerFlow, stylesheet

ROOT = Path(__file__).parents[3]
KINDS = (".py", ".html", ".css", ".js", ".json", ".svg", ".toml")
HEX = re.compile(r"#[0-9A-Fa-f]{6}\b")
PAGES = {"light": "#ffffff", "dark": "#13171f"}

# Machado, Oliveira and Fernandes 2009, full severity, linear RGB.
SEEN = {
    "all": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_LMS = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
]
TO_LAB = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
]
Colour = NDArray[np.float64]


def linear(text: str) -> Colour:
    values = np.array([int(text[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def oklab(colour: Colour) -> Colour:
    return np.asarray(np.array(TO_LAB) @ np.cbrt(np.array(TO_LMS) @ np.clip(colour, 0, 1)))


def luminance(text: str) -> float:
    return float(linear(text) @ np.array([0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("theme", PAGES)
def test_every_flow_stands_out_from_the_page(theme: str) -> None:
    page = luminance(PAGES[theme])
    for flow, look in LOOKS.items():
        low, high = sorted((page, luminance(getattr(look, theme))))
        assert (high + 0.05) / (low + 0.05) >= 3, flow


@pytest.mark.parametrize("eye", SEEN)
@pytest.mark.parametrize("theme", PAGES)
def test_two_flows_are_told_apart_by_everybody(theme: str, eye: str) -> None:
    seen = {flow: oklab(np.array(SEEN[eye]) @ linear(getattr(look, theme))) for flow, look in LOOKS.items()}
    for one, other in combinations(PowerFlow, 2):
        assert np.linalg.norm(seen[one] - seen[other]) >= 0.12, (one, other)
    assert len({look.sign for look in LOOKS.values()}) == len(PowerFlow), "each has a sign of its own besides"


@pytest.mark.parametrize("theme", PAGES)
def test_states_and_lines_can_be_read_on_the_page(theme: str) -> None:
    page = luminance(PAGES[theme])
    for shade in (*STATES.values(), *LINES):
        low, high = sorted((page, luminance(getattr(shade, theme))))
        assert (high + 0.05) / (low + 0.05) >= 4.5, shade


def test_no_other_file_has_a_colour_of_the_table() -> None:
    shades = (*LOOKS.values(), *STATES.values(), *LINES)
    colours = {BRAND, *(shade.light for shade in shades), *(shade.dark for shade in shades)}
    found = [
        path.name
        for path in list_of_files()
        if colours & {colour.lower() for colour in HEX.findall(path.read_text(encoding="utf-8"))}
    ]
    assert found == []


def test_the_consoles_stylesheet_has_no_colour_of_its_own() -> None:
    assert HEX.findall((ROOT / "utility/webkit/console/static/console.css").read_text(encoding="utf-8")) == []


def list_of_files() -> list[Path]:
    """Return the files of the product that a person wrote."""
    folders = ("adapters", "broker", "commonwatt", "gateway", "grafana", "meter_sim", "scenarios", "utility")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in KINDS]
    made = {ROOT / "grafana/dashboards", ROOT / "utility/webkit/console/vendor"}
    assert len(files) > 300
    return [path for path in files if path.name != "palette.py" and not made & set(path.parents)]


def test_pages_get_the_colours_of_the_table() -> None:
    light, dark, *_ = stylesheet().splitlines()
    for flow, look in LOOKS.items():
        assert f"--flow-{flow}: {look.light};" in light
        assert f"--flow-{flow}: {look.dark};" in dark
