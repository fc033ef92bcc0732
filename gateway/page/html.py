"""HTML from nested calls: every text is escaped unless it is HTML already."""

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
        children: Its content.
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
