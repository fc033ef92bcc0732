"""HTML from nested calls: every text is escaped unless it is HTML already; and bars, drawn as SVG."""

from collections.abc import Iterable
from html import escape
from typing import TypeAlias


class Html(str):
    """Text that is HTML, made by this module."""

    __slots__ = ()


Child: TypeAlias = "str | int | Iterable[Child] | None"
"""The content of an element: text, HTML, or several of these; ``None``: nothing."""

_EMPTY = ("meta", "input", "br", "link")


def el(name: str, /, *children: Child, **attributes: str | int | bool | None) -> Html:
    """Return an element.

    Args:
        attributes: Its attributes; ``class_`` stands for class, and ``_`` for a hyphen. ``True`` is an attribute
            without value, ``None`` and ``False`` leave it out.
    """
    opening = name + "".join(map(_attribute, attributes.items()))
    return Html(f"<{opening}>") if name in _EMPTY else Html(f"<{opening}>{html(children)}</{name}>")


def html(child: Child) -> Html:
    """Return content as HTML."""
    if child is None:
        return Html()
    if isinstance(child, Html):
        return child
    if isinstance(child, str | int):
        return Html(escape(str(child)))
    return Html("".join(map(html, child)))


def _attribute(pair: tuple[str, str | int | bool | None]) -> str:
    key, value = pair
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'


def bar(part: float, kind: str, label: str, *, mark: float | None = None) -> Html:
    """Return a bar; its widths need no style.

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
