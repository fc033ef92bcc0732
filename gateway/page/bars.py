"""Bars, drawn as SVG: their widths need no style."""

from gateway.page.html import Html, el


def bar(part: float, kind: str, label: str, *, mark: float | None = None) -> Html:
    """Return a bar.

    Args:
        part: Its filled part, 0 to 1.
        kind: The class of the filled part, which has its colour.
        label: The same in words, for screen readers.
        mark: Where a mark stands, 0 to 1; ``None``: nowhere.
    """
    at = None if mark is None else el("rect", class_="mark", x=_place(mark), y=0, width="0.6%", height="100%")
    return el(
        "svg",
        el("rect", class_="track", x=0, y="20%", width="100%", height="60%", rx=5),
        el("rect", class_=kind, x=0, y="20%", width=_place(part), height="60%", rx=5),
        at,
        role="img",
        aria_label=label,
    )


def _place(part: float) -> str:
    return f"{100 * min(1.0, max(0.0, part)):.1f}%"
