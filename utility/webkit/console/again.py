"""A refused form is shown again: its page, with what was typed, and what is wrong beside the field.

The page is asked for within the process, as the browser would, so no template and no route has to do anything. What
was typed never comes back of passwords, codes and files; of hidden fields only where a script writes them.
"""

import re
from collections.abc import Iterator, Mapping
from html import escape, unescape
from typing import Any
from urllib.parse import unquote, urlsplit

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message

from utility.webkit.rights import CSRF_FIELD, RefusedRequestError, require_own_origin

_PAGE = "form_page"  # the field of a form that was shown again: the page on which it stands
_SECRET = frozenset({CSRF_FIELD, _PAGE, "current", "new", "password", "code", "recovery", "secret"})
_LEFT = (b"content-", b"transfer-", b"hx-", b"if-")  # beginnings of headers that the page's request has not

_INSIDE = r"""(?:"[^"]*"|'[^']*'|[^>"'])*"""
_PART = re.compile(r"""\s+([\w:-]+)(?:="([^"]*)"|='([^']*)')?""")
_FORM = re.compile(rf"(?P<head><form\b{_INSIDE}>).*?</form>", re.DOTALL)
_POST = re.compile(rf"<form method=\"post\"{_INSIDE}>")
_BUTTON = re.compile(rf"<button\b{_INSIDE}>")
_OPTION = re.compile(rf"(<option\b{_INSIDE}>)([^<]*)")
_FIELD = re.compile(
    rf"(?P<head><(?:input|(?P<long>select|textarea))\b{_INSIDE}>)"
    r"(?(long)(?P<inside>.*?)(?P<end></(?P=long)>))(?P<label>(?:[^<]*</label>)?)",
    re.DOTALL,
)
_UNSHOWN = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f]")


async def form_again(request: Request, text: str, status: int, faults: Mapping[str, str]) -> Response | str:
    """Return the page of the form that a request sent; else the address of the page nearest to it.

    Args:
        text: Why all of it is refused; it may begin with the name of the field that is at fault.
        status: The status of the answer.
        faults: What is wrong with single fields.
    """
    typed, nearest = dict[str, list[str]](), ""
    if "route" not in request.scope:
        return ""  # No form leads there, and an address may have any length.
    try:
        require_own_origin(request)
        form = await request.form()
    except (RefusedRequestError, HTTPException, ClientDisconnect):
        return ""  # Another site's, or cut: nothing of it is shown.
    for name, value in form.multi_items():
        if isinstance(value, str):
            typed.setdefault(name, []).append(_UNSHOWN.sub("\N{REPLACEMENT CHARACTER}", value))
    for place in _places(request, typed):
        page = await _asked(request, place)
        nearest = nearest or (place if page else "")
        if page and (shown := _shown(page, request.url.path, place, typed, text, faults)):
            return HTMLResponse(shown, status)
    return nearest


def _places(request: Request, typed: Mapping[str, list[str]]) -> Iterator[str]:
    """Yield the addresses on which the form may stand: those that are said, then those above its own."""
    came = urlsplit(request.headers.get("referer", ""))
    path, named = request.url.path, [*typed.get(_PAGE, ())[:1]]
    if came.netloc == request.url.netloc:
        named.append(came._replace(scheme="", netloc="").geturl())
    above = [path[:end] for end in range(len(path), 1, -1) if end == len(path) or path[end] == "/"]
    for place in dict.fromkeys([*named, *above]):
        if place.startswith("/console/") and place.isascii() and place.isprintable():
            yield place


async def _asked(request: Request, place: str) -> str:
    """Return a page of ours as the person of a request gets it; empty: there is none."""
    path, _, query = place.partition("?")
    same = {name: request.scope[name] for name in ("type", "asgi", "http_version", "scheme", "server", "client")}
    headers = [header for header in request.scope["headers"] if not header[0].startswith(_LEFT)]
    scope = same | {"method": "GET", "path": unquote(path), "raw_path": path.encode(), "query_string": query.encode()}
    start, body = dict[str, Any](), bytearray()

    async def receive(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        body.extend(message.get("body", b""))

    async def nothing() -> Message:
        return {"type": "http.disconnect"}  # ends a stream

    await request.app(scope | {"headers": headers, "root_path": ""}, nothing, receive)
    is_page = start.get("status") == 200 and b"text/html" in dict(start["headers"]).get(b"content-type", b"")
    return body.decode() if is_page else ""


def _shown(
    page: str, path: str, place: str, typed: Mapping[str, list[str]], text: str, faults: Mapping[str, str]
) -> str:
    """Return a page with the form of a path filled and marked; empty: the page has no such form."""
    forms, here = list(_FORM.finditer(page)), urlsplit(place).path
    outside = {attrs.get("form") for attrs in map(_attrs, _BUTTON.findall(page)) if attrs.get("formaction") == path}
    own = [form for form in forms if path in _leads(form[0], here) or _attrs(form["head"]).get("id", "") in outside]
    if not own:
        return ""
    form = max(own, key=lambda match: sum(value in typed.get(name, ()) for name, value in _fixed(match[0])))
    # If its row of several is gone, what was typed is of no other.
    is_other = len(own) > 1 and any(
        name not in _SECRET and value not in typed.get(name, [value]) for name, value in _fixed(form[0])
    )
    names = {_attrs(field["head"]).get("name", "") for field in _FIELD.finditer(form[0])}
    first = text.replace(":", " ").partition(" ")[0]
    if first in names or first.startswith("sure"):
        faults, text = {**faults, first: text.partition(": ")[2] or text}, ""
    filled, wrong = (form[0], [*faults.values()]) if is_other else _filled(form[0], typed, faults)
    words = " ".join(_ended(sentence) for sentence in [*wrong, text] if sentence)
    focus = "" if ' aria-invalid="true"' in filled else ' tabindex="-1" autofocus'
    alert = f'<p role="alert"{focus}>{escape(words)} Nothing was changed.</p>'
    before, after = page[: form.start()].replace(" autofocus", ""), page[form.end() :].replace(" autofocus", "")
    for tag, name, end in (("<details", " open", "</details>"), ("<div popover", "", "</div>")):
        at = before.rfind(tag)
        if at > before.rfind(end):
            before = f"{before[:at]}{tag.removesuffix(' popover')}{name}{before[at + len(tag) :]}"
    mark = f'<input type="hidden" name="{_PAGE}" value="{escape(place)}">'
    return _POST.sub(lambda head: head[0] + mark, before + alert + filled + after)


def _filled(form: str, typed: Mapping[str, list[str]], faults: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return a form with what was typed and its fields marked, and what is wrong with it in sentences."""
    left, wrong, sentences = {name: list(values) for name, values in typed.items()}, dict(faults), list[str]()

    def field(match: re.Match[str]) -> str:
        head, inside, attrs = match["head"], match["inside"] or "", _attrs(match["head"])
        name, kind = attrs.get("name", ""), attrs.get("type", "text")
        if not name or name in _SECRET or kind in ("password", "file"):
            pass
        elif kind in ("checkbox", "radio"):
            head = _set(head, "checked", "" if attrs.get("value", "on") in typed.get(name, ()) else None)
        elif match["long"] == "select" and left.get(name):
            chosen = left[name].pop(0)
            if any(chosen == _value(o) for o in _OPTION.finditer(inside)):
                inside = _OPTION.sub(
                    lambda o: _set(o[1], "selected", "" if _value(o) == chosen else None) + o[2], inside
                )
        elif left.get(name) and (kind != "hidden" or "id" in attrs):
            value = left[name].pop(0)
            head, inside = (head, f"\n{escape(value)}") if match["long"] else (_set(head, "value", value), inside)
        note = ""
        if kind != "hidden" and name in wrong:
            fault, mark = _bare(wrong.pop(name)), f"{attrs.get('id', name)}-wrong"
            head = _set(head, "aria-invalid", "true")
            head = _set(head, "aria-describedby", " ".join([*attrs.get("aria-describedby", "").split(), mark]))
            head = head if sentences else _set(head, "autofocus", "")
            called = _called(form, match.start(), attrs)
            sentences.append(fault if kind == "checkbox" else f"{called[:1].upper()}{called[1:]}: {fault}")
            note = f'<small id="{mark}" class="fault">{escape(_ended(fault[:1].upper() + fault[1:]))}</small>'
        return f"{head}{inside}{match['end'] or ''}{match['label']}{note}"

    whole = _FIELD.sub(field, form).replace("<details>", "<details open>")
    for name in [name for name in wrong if name.startswith("sure")]:
        box = f'<input type="checkbox" name="{name}" value="true" aria-invalid="true"> {escape(_bare(wrong[name]))}'
        whole = whole.replace("<button", f"<label>{box}</label><button", 1)
    return whole, [*sentences, *wrong.values()]


def _bare(text: str) -> str:
    return text.removesuffix(" Nothing was changed.").rstrip(".")


def _ended(text: str) -> str:
    bare = _bare(text)
    return bare if bare.endswith("?") else f"{bare}."


def _attrs(tag: str) -> dict[str, str]:
    return {name: unescape(double or single) for name, double, single in _PART.findall(tag)}


def _set(tag: str, name: str, value: str | None) -> str:
    """Return a tag with another value of an attribute; ``None``: without it."""
    bare = _PART.sub(lambda attribute: "" if attribute[1] == name else attribute[0], tag)
    return bare if value is None else f'{bare[:-1]} {name}="{escape(value)}">'


def _value(option: re.Match[str]) -> str:
    return _attrs(option[1]).get("value", unescape(option[2]))


def _leads(form: str, here: str) -> set[str]:
    """Return the paths to which a form's buttons lead."""
    buttons = [_attrs(button) for button in _BUTTON.findall(form)]
    action = _attrs(form.partition(">")[0]).get("action", here)
    return {action, *(button["formaction"] for button in buttons if "formaction" in button)}


def _fixed(form: str) -> list[tuple[str, str]]:
    """Return name and value of the fixed fields of a form, by which rows of a list with the same form differ."""
    hidden = [attrs for field in _FIELD.finditer(form) if (attrs := _attrs(field["head"])).get("type") == "hidden"]
    return [(attrs.get("name", ""), attrs.get("value", "")) for attrs in hidden if "id" not in attrs]


def _called(form: str, at: int, attrs: Mapping[str, str]) -> str:
    """Return what a field is called for people: its label's words."""
    before = form[:at]
    label = before.rfind("<label")
    if label > before.rfind("</label>"):
        words = before[label:]
    elif match := re.search(rf'<label for="{re.escape(attrs.get("id", " "))}">(.*?)</label>', form, re.DOTALL):
        words = match[1]
    else:
        words = escape(attrs.get("aria-label", attrs.get("name", "")))
    return " ".join(unescape(re.sub("<[^>]*>", "", words)).split()).partition(";")[0].rstrip(":") or attrs.get(
        "name", ""
    )
