"""A bill as one self-contained HTML page that prints on one or two sheets, with a plot by hour."""

from collections.abc import Sequence
from html import escape
from zoneinfo import ZoneInfo

from utility.billing.documents.plot import DRAWN, ESTIMATE, GRID, HEIGHT, LEFT, WIDTH, Plot
from utility.billing.documents.statement import (
    CODE_WORDS,
    LINES_HEAD,
    TOTALS_HEAD,
    Hours,
    Row,
    Statement,
    hours,
    kwh,
    spaced,
    texts,
)

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:900px;margin:2rem auto;padding:0 1rem;color:#1c1c1c;background:#fff}
table{border-collapse:collapse;width:100%}th,td{padding:.25rem .5rem;border-bottom:1px solid #ccc;text-align:right}
th:first-child,td:first-child{text-align:left}h1{margin-bottom:.5rem}h2{margin:1.5rem 0 .3rem;font-size:1.1rem}
svg{width:100%;height:auto}.key span{margin-right:1.2rem;white-space:nowrap}
tr.total td{font-weight:bold;border-top:2px solid}
dl{display:grid;grid-template-columns:7rem auto;margin:0}dd{margin:0}code{font-size:.9rem;word-spacing:.2rem}
@media print{body{margin:0;font-size:11px}h2,figure,table{break-inside:avoid}svg,span{print-color-adjust:exact}}
"""


def as_html(statement: Statement) -> str:
    """Return the page."""
    said = texts(statement)
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in said.facts)
    notes = "".join(f"<li>{escape(note)}</li>" for note in said.notes)
    course = f"<h2>Hour by hour</h2>{_plot(hours(statement), statement.zone)}" if statement.meters else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(said.title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<h1>{escape(said.title)}</h1><dl>{facts}</dl><h2>Amount</h2>{_table(LINES_HEAD, said.lines, last='total')}"
        f"{f'<ul>{notes}</ul>' if notes else ''}{course}{_check(said.code, said.totals)}</html>\n"
    )


def _check(code: str, totals: Sequence[Row]) -> str:
    if not code:
        return ""
    return (
        f"<h2>Check code of the month</h2><p><code>{spaced(code)}</code></p><p>{escape(CODE_WORDS)}</p>"
        f"{_table(TOTALS_HEAD, totals)}"
    )


def _table(head: Row, rows: Sequence[Row], last: str = "") -> str:
    body = [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows]
    if last:
        body[-1] = body[-1].replace("<tr>", f'<tr class="{last}">', 1)
    titles = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _plot(found: Hours, zone: ZoneInfo) -> str:
    shown = [(quantity, words, color) for quantity, words, color, _ in DRAWN if found.energies[quantity].any()]
    key = "".join(
        f'<span><svg width=12 height=12 style="width:12px"><rect width=12 height=12 fill="{color}"/></svg> '
        f"{words} {kwh(int(found.energies[quantity].sum()))} kWh</span>"
        for quantity, words, color in shown
    )
    scale = Plot(found)
    axis = round(GRID * scale.zero)
    areas = "".join(
        f'<path fill="{color}" d="M0,{axis}{"".join(map("V%dH%d".__mod__, steps))}V{axis}Z"/>'
        for color, steps in scale.areas()
    )
    marks = "".join(
        f'<rect x="{x:.1f}" y="{scale.low:.1f}" width="{width:.1f}" height="4" fill="{ESTIMATE}"/>'
        for x, width in scale.marks()
    )
    dates = "".join(
        f'<text x="{x:.1f}" y="{HEIGHT - 4}" font-size="11" fill="currentColor">{text}</text>'
        for x, text in scale.days(zone)
    )
    zero = f'<line x1="{LEFT}" y1="{scale.zero:.1f}" x2="{WIDTH}" y2="{scale.zero:.1f}" stroke="currentColor"/>'
    ends = "".join(
        f'<text x="0" y="{y:.1f}" font-size="11" fill="currentColor">{text}</text>' for y, text in scale.ends()
    )
    caption = "Kilowatt-hours in each hour: into your place above the line, out of it below."
    warning = " Red marks: hours with estimates or without data." if marks else ""
    return (
        f"<figure style='margin:0'><figcaption>{caption}{warning}</figcaption><p class=key>{key}</p>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{caption}">'
        f'<g transform="translate({LEFT},0) scale({scale.step:.5f},{1 / GRID})">{areas}</g>'
        f"{zero}{marks}{ends}{dates}</svg></figure>"
    )
