"""A person at the console who knows nothing but the page that is shown: follows its links, fills in its forms."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import httpx

from harness.console import PASSWORD, Browser

LOOK_S = 0.02  # real seconds between two looks at a work
WAIT_S = 60  # real seconds after which a work that does not end is a fault
_SINGLE = frozenset(("br", "hr", "img", "input", "link", "meta", "source", "wbr"))
File = tuple[str, bytes]  # name and content


@dataclass(kw_only=True)
class Field:
    """A field of a form."""

    name: str  # what it is sent as
    kind: str  # the type of the input, or ``select`` or ``textarea``
    value: str = ""  # what it is filled with
    id: str = ""  # by which a label names it
    label: str = ""  # the words beside it
    options: dict[str, str] = field(default_factory=dict)  # of a choice: values by their words
    is_on: bool = True  # whether it is sent: a box that is ticked, or no box


@dataclass(kw_only=True)
class Button:
    """A button of a form."""

    words: str  # what stands on it
    name: str = ""  # what it is sent as; empty: it is not
    value: str = ""  # with which value
    path: str = ""  # where the form is sent with it, if not to its own address


@dataclass(kw_only=True)
class Form:
    """A form of a page."""

    path: str  # where it is sent
    method: str  # ``get`` or ``post``
    fields: list[Field] = field(default_factory=list)
    buttons: list[Button] = field(default_factory=list)
    around: str = ""  # the words of the page before it, in the same card or row

    def find(self, label: str) -> Field:
        """Return the field beside whose words a person looks."""
        seen = [each for each in self.fields if each.kind != "hidden" and each.label.startswith(label)]
        assert seen, f"no field {label!r}; there are {[each.label for each in self.fields if each.kind != 'hidden']}"
        return seen[0]


class Page(HTMLParser):
    """What a person sees of a page: its words, links and forms."""

    def __init__(self, address: str, answer: httpx.Response) -> None:
        super().__init__()
        self.address, self.answer = address, answer
        self.links: list[tuple[str, str]] = []
        self.forms: list[Form] = []
        self._words: list[str] = []
        self._open: list[tuple[str, dict[str, str], int]] = []  # elements: tag, attributes, the words before
        self._labels: dict[str, str] = {}
        self._form: Form | None = None
        self._choice = self._area = None  # type: Field | None
        if "html" in answer.headers.get("content-type", ""):
            self.feed(answer.text)
            self.close()
        for form in self.forms:
            for each in form.fields:
                each.label = each.label or self._labels.get(each.id, "")

    @property
    def text(self) -> str:
        """The words of the page."""
        return " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element's begin."""
        at = {name: value or "" for name, value in attrs}
        if tag not in _SINGLE:
            self._open.append((tag, at, len(self._words)))
        if tag == "form":
            path = at.get("action", "") or self.address
            row = max((begin for name, _, begin in self._open if name in ("tr", "section", "article")), default=0)
            around = " ".join(" ".join(self._words[row:]).split())
            self._form = Form(path=path, method=at.get("method", "get").lower(), around=around)
            self.forms.append(self._form)
        elif tag == "option" and self._choice is not None:
            self._choice.value = (
                at.get("value", "") if "selected" in at or not self._choice.options else self._choice.value
            )
            self._choice.options.setdefault(at.get("value", ""), at.get("value", ""))
        elif tag in ("input", "select", "textarea") and self._form is not None and "name" in at:
            kind = at.get("type", "text") if tag == "input" else tag
            is_on = kind not in ("checkbox", "radio") or "checked" in at
            made = Field(name=at["name"], kind="hidden" if "hidden" in at else kind, id=at.get("id", ""), is_on=is_on)
            made.value = at.get("value", "on" if kind == "checkbox" else "")
            self._form.fields.append(made)
            self._choice = made if tag == "select" else None
            self._area = made if tag == "textarea" else None
            inside = next((begin for name, _, begin in reversed(self._open) if name == "label"), None)
            if inside is not None:
                made.label = " ".join(" ".join(self._words[inside:]).split())

    def handle_endtag(self, tag: str) -> None:
        """Note an element's end."""
        while self._open and tag not in _SINGLE:
            name, at, begin = self._open.pop()
            if name == tag:
                self._ended(tag, at, " ".join(" ".join(self._words[begin:]).split()))
                break

    def _ended(self, tag: str, at: dict[str, str], words: str) -> None:
        if tag == "a" and "href" in at:
            self.links.append((words or at.get("aria-label", ""), at["href"]))
        elif tag == "label" and "for" in at:
            self._labels[at["for"]] = words
        elif tag == "option" and self._choice is not None:
            self._choice.options = {said: value for said, value in self._choice.options.items() if said != value}
            self._choice.options[words] = at.get("value", words)
        elif tag == "button" and self._form is not None and at.get("type", "submit") == "submit":
            made = Button(
                words=words, name=at.get("name", ""), value=at.get("value", ""), path=at.get("formaction", "")
            )
            self._form.buttons.append(made)
        elif tag == "form":
            self._form = None
        elif tag == "textarea" and self._area is not None:
            self._area.value, self._area = self._area.value.removeprefix("\n"), None
        elif tag == "select":
            self._choice = None

    def handle_data(self, data: str) -> None:
        """Note words."""
        if self._area is not None:
            self._area.value += data
        elif not (self._open and self._open[-1][0] in ("script", "style", "title")):
            self._words.append(data)


class Desk:
    """A person at the console."""

    def __init__(self, log_in: Callable[[], Browser]) -> None:
        self._log_in = log_in
        self.downloaded = b""  # the file that was downloaded last; the page stays
        self.come()

    def come(self) -> None:
        """Log in, at the begin of a day: a session ends."""
        self._browser = self._log_in()
        self._place: tuple[str, httpx.Response] | None = None  # address and answer of the page that is shown
        self._page: Page | None = None  # the page, once somebody looks at it

    @property
    def page(self) -> Page:
        """The page that is shown."""
        if self._place is None:
            self._shown("GET", "/console/")
        assert self._place is not None
        self._page = self._page or Page(*self._place)
        return self._page

    @property
    def text(self) -> str:
        """The words of the page that is shown."""
        return self.page.text

    def click(self, words: str, *, before: str = "", nth: int = 0) -> "Desk":
        """Follow a link by its words; ``before``: how its address begins, where rows have the same words."""
        seen = [href for said, href in self.page.links if said == words and href.startswith(before)]
        assert len(seen) > nth, f"no link {words!r} on {self.page.address}; there are {self.page.links}"
        return self._shown("GET", seen[nth])

    def go(self, *words: str) -> "Desk":
        """Follow links from the navigation on."""
        for each in words:
            self.click(each)
        return self

    def send(
        self, button: str, /, fields: dict[str, Any] | None = None, *, around: str = "", tick: bool = True
    ) -> "Desk":
        """Press a button of a form, after filling in the fields beside whose words a person looks.

        Args:
            fields: What to fill in, by the first words of each label; ``(name, content)`` is a file.
            around: Words that stand before the form in its row or card, where forms are alike.
            tick: Whether the boxes that confirm are ticked.
        """
        alike = [form for form in self.page.forms if any(each.words.startswith(button) for each in form.buttons)]
        seen = [form for form in alike if around in form.around]
        assert seen, f"no button {button!r} on {self.page.address}; it says {self.text[:3000]}"
        form = seen[0]
        pressed = next(each for each in form.buttons if each.words.startswith(button))
        files: dict[str, File] = {}
        for label, value in (fields or {}).items():
            found = form.find(label)
            if isinstance(value, tuple):
                files[found.name] = value
                continue
            if found.kind == "select":
                fitting = [each for words, each in found.options.items() if words.startswith(value)]
                assert fitting, f"{label} has no {value!r}; there are {list(found.options)}"
                (value, *_) = fitting
            found.value, found.is_on = str(value), True
        data = defaultdict[str, list[str]](list)
        for each in form.fields:
            if each.kind != "file" and (each.is_on or (tick and each.kind == "checkbox")):
                data[each.name].append(PASSWORD if each.kind == "password" else each.value)
        if pressed.name:
            data[pressed.name] = [pressed.value]
        path = urljoin(self.page.address, pressed.path or form.path)
        if form.method == "get":
            return self._shown("GET", f"{path}?{urlencode(data, doseq=True)}")
        return self._shown("POST", path, data=data, files=files or None)

    def again(self, path: str, fields: dict[str, Any]) -> httpx.Response:
        """Send a form's fields to an address that this person's pages do not offer."""
        return self._browser.post(path, fields)

    def get_file(self, path: str) -> bytes:
        """Return what an address has that a person was given; the page stays."""
        answer = self._browser.get(path)
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:300])
        return answer.content

    def file(self, words: str, *, before: str = "") -> bytes:
        """Follow a link to a file; the page stays."""
        (path, *_) = [href for said, href in self.page.links if said == words and href.startswith(before)]
        return self.get_file(path)

    def wait(self) -> "Desk":
        """Look again until a work is done, which leads to its result."""
        until = monotonic() + WAIT_S
        while "Look again" in dict(self.page.links) and monotonic() < until:
            sleep(LOOK_S)
            self.click("Look again")
        assert not self.page.address.startswith("/console/works"), self.text
        return self

    def _shown(self, method: str, path: str, **options: Any) -> "Desk":
        answer = self._browser.send(method, path, **options)
        while answer.status_code in (302, 303):
            path = urljoin(path, answer.headers["location"])
            answer = self._browser.send("GET", path)
        if "attachment" in answer.headers.get("content-disposition", ""):
            self.downloaded = answer.content
            return self
        parts = urlsplit(path)
        self._place, self._page = (f"{parts.path}?{parts.query}" if parts.query else parts.path, answer), None
        return self
