"""A post that fails answers with its form: what was typed is kept, the fault is said in a sentence, nothing is blank.

Every form of the console is found by following the links of its pages, and posted with ten kinds of wrong input, one
field at a time in turn; with ``EXAMPLES`` of ``make soak`` each field has more kinds.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import count
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx
import pytest
from fastapi.routing import APIRoute

from harness.furnished import furnished, visited
from harness.routes import Visitors
from tests.unit.utility.assembly.test_planted_text import rows_of_others
from tests.unit.utility.assembly.test_routes import QUERY, VALUES
from tests.unit.utility.conftest import NOW
from utility.database.database import Database
from utility.webkit.works import Works

WRONG: dict[str, str | bytes] = {
    "empty": "",
    "blank": " ",
    "too long": "x" * 40_000,
    "control characters": "a\0b\x07",
    "no UTF-8": b"\xff\xfe",
    "letters for a number": "twelve",
    "a huge number": "9" * 40,
    "a negative number": "-5",
    "2099": "2099-01-01",
    "1970": "1970-01-01",
    "no date": "2026-02-31",
    "an unknown choice": "no-such-choice",
    "HTML": "<b id=probe>'\"",
}
FORBIDDEN = re.compile(
    r"must match the pattern|codec|Input should|valid decimal|commonwatt [a-z]|\.toml|Value error|UploadFile"
    r"|Back to the start|\bNone\b|Errno|<b id|\[utility",
)
SECRET = {"csrf", "form_page", "current", "new", "password", "code", "recovery", "secret"}
TABLE = b"day,amount,currency,reference,text,payer,bank_reference\n2026-12-05,12.50,USD,,rent,Ann,B1\n"
FURNITURE: list[tuple[str, dict[str, Any]]] = [
    ("/console/ledger/import", {"files": {"file": ("bank.csv", TABLE)}}),
    ("/console/entries", {"data": {"kind": "fee", "subject": "2", "reason": "meter", "amount": "3"}}),
    ("/console/research/agreements", {"data": {"name": "sun", "until": "2027-12-01"}}),
]
"""What makes pages show more forms."""
EACH = int(os.environ.get("EXAMPLES", "50")) // 50
PER_ROUTE = 3  # addresses of a route that are looked at


@dataclass
class Field:
    name: str
    kind: str
    value: str
    options: list[str] = field(default_factory=list)


@dataclass
class Form:
    page: str
    action: str
    fields: list[Field] = field(default_factory=list)

    def shape(self, visitors: Visitors) -> tuple[object, ...]:
        """Return what is the same of forms of a kind: their route and their fields."""
        return route_of(visitors, "POST", self.action), frozenset(each.name for each in self.fields)


class Pages(HTMLParser):
    """Collects the forms and links of a page, its sentences of alert, and the text of its fields."""

    def __init__(self, page: str, text: str) -> None:
        super().__init__()
        self.page, self.forms, self.links, self.said, self.marked = page, list[Form](), list[str](), list[str](), 0
        self._at: Form | None = None
        self._tag = ""
        self._reads: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        name, on = said.get("name", ""), self._at
        if tag == "a" and said.get("href", "").startswith("/console/"):
            self.links.append(said["href"])
        if tag == "form":
            action = said.get("action") or urlsplit(self.page).path
            self._at = Form(self.page, action) if said.get("method") == "post" else None
            self.forms += [self._at] if self._at else []
        elif tag in ("input", "textarea", "select") and on and name:
            kind = said.get("type", "text") if tag == "input" else tag
            if kind not in ("checkbox", "radio") or "checked" in said:
                on.fields.append(Field(name, kind, said.get("value", "")))
        elif tag == "option" and on and on.fields:
            on.fields[-1].options.append(said.get("value", ""))
            on.fields[-1].value = said.get("value", "") if "selected" in said else on.fields[-1].options[0]
        elif tag == "button" and on and "formaction" in said:
            self.forms.append(Form(self.page, said["formaction"], on.fields))
        elif tag == "button" and on and name and name not in {each.name for each in on.fields}:
            on.fields.append(Field(name, "hidden", said.get("value", "")))
        self._tag = tag
        self.marked += said.get("aria-invalid") == "true"
        if said.get("role") == "alert" or "fault" in said.get("class", "").split() or tag == "textarea":
            self._reads = []
            self._reads_for = tag

    def handle_data(self, data: str) -> None:
        if self._reads is not None:
            self._reads.append(data)

    def handle_endtag(self, tag: str) -> None:
        if self._reads is not None and tag == self._reads_for:
            text = "".join(self._reads)
            if tag == "textarea" and self._at and self._at.fields:
                self._at.fields[-1].value = text.removeprefix("\n")
            elif tag != "textarea":
                self.said.append(" ".join(text.split()))
            self._reads = None
        if tag == "form":
            self._at = None


def route_of(visitors: Visitors, method: str, path: str) -> str:
    for route in visitors.app.routes:
        if (
            isinstance(route, APIRoute)
            and method in (route.methods or ())
            and route.path_regex.match(urlsplit(path).path)
        ):
            return route.path
    return ""


def is_html(answer: httpx.Response) -> bool:
    return "text/html" in answer.headers.get("content-type", "")


def walked(visitors: Visitors, headers: Mapping[str, str]) -> list[Form]:
    """Return a form of each kind that pages show."""
    known = VALUES | QUERY
    first = [
        route.path for route in visitors.app.routes if isinstance(route, APIRoute) and "GET" in (route.methods or ())
    ]
    paths = ["/console/login"] + [
        path.format_map({name: known.get(name, "1") for name in re.findall(r"{(\w+)", path)}).replace(":path", "")
        for path in first
        if path.startswith("/console/") and "/events" not in path and "static" not in path
    ]
    seen, looked, found = set(paths), dict[str, int](), dict[tuple[object, ...], Form]()
    while paths:
        path = paths.pop(0)
        route = route_of(visitors, "GET", path)
        if looked.get(route, 0) >= PER_ROUTE:
            continue
        for who in ({}, headers) if "/login" in path or "/invitation" in path or "/confirm/" in path else (headers,):
            answer = visitors.ask("GET", path, who)
            if not is_html(answer):
                continue
            page, looked[route] = Pages(path, answer.text), looked.get(route, 0) + (answer.status_code == 200)
            for form in page.forms:
                if form.action != "/console/logout":
                    found.setdefault(form.shape(visitors), form)
            fresh = [link.partition("#")[0] for link in page.links]
            paths += [link for link in dict.fromkeys(fresh) if link not in seen]
            seen.update(fresh)
    return list(found.values())


def send(visitors: Visitors, headers: Mapping[str, str], form: Form, at: int, wrong: str | bytes) -> httpx.Response:
    """Post a form with another value in one field."""
    pairs = [(each.name, wrong if n == at else each.value) for n, each in enumerate(form.fields)]
    raw = [(name, value if isinstance(value, bytes) else value.encode()) for name, value in pairs]
    more = {"Referer": f"https://localhost{form.page}"}
    if any(each.kind == "file" for each in form.fields):
        files = [
            (name, ("wrong.csv", value) if each.kind == "file" else (None, value))
            for (name, value), each in zip(raw, form.fields, strict=True)
        ]
        return visitors.ask("POST", form.action, {**headers, **more}, files=files)
    body = "&".join(f"{quote(name)}={quote(value)}" for name, value in raw)
    more["Content-Type"] = "application/x-www-form-urlencoded"
    return visitors.ask("POST", form.action, {**headers, **more}, content=body.encode())


def judged(visitors: Visitors, headers: Mapping[str, str], form: Form, at: int, wrong: Any, answer: Any) -> str:
    """Return what is wrong with an answer to a form; empty: nothing."""
    if answer.status_code >= 500:
        return f"fails with {answer.status_code}"
    if answer.status_code == 401 or answer.is_redirect:
        return ""
    if answer.is_success:
        said = " ".join(Pages(form.page, answer.text).said) if is_html(answer) else ""
        return f"is no 4xx: {said:.150}" if FORBIDDEN.search(said) or "Nothing was changed" in said else ""
    if not is_html(answer):
        return f"is no page: {answer.text[:60]!r}"
    page, one = Pages(form.page, answer.text), form.fields[at]
    told = [text for text in page.said if text]
    if not told:
        return "has no sentence"
    if bad := FORBIDDEN.search(" ".join(told)):
        return f"says {bad[0]!r}: {' '.join(told)[:200]}"
    again = [each for each in page.forms if each.action == form.action]
    if not again:
        now = Pages(form.page, visitors.ask("GET", form.page, headers).text)
        if any(each.action == form.action for each in now.forms):
            return f"has not the form: {' '.join(told)[:150]}"
        return ""
    if one.name in SECRET or one.kind in ("hidden", "file", "password", "checkbox", "radio", "select"):
        return "" if one.name not in SECRET or "xxxxxxxxxxxxxxxx" not in answer.text else "shows a secret again"
    kept = {each.value for form in again for each in form.fields if each.name == one.name}
    typed = wrong.replace("\0", "\ufffd").replace("\x07", "\ufffd") if isinstance(wrong, str) else "\ufffd\ufffd"
    return "" if {typed, typed.strip(), wrong} & kept else f"lost what was typed: {sorted(kept)!r:.80}"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with furnished(tmp_path_factory.mktemp("forms"), NOW) as made:
        with made.writes.begin() as connection:
            for table, row in rows_of_others():
                connection.execute(table.insert(), row)
        yield made


@pytest.fixture(scope="module")
def visitors(database: Database) -> Iterator[Visitors]:
    with visited(database, NOW) as made:
        yield made


def test_every_form_with_wrong_input_stands_again(visitors: Visitors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Works, "_run", lambda *_: None)
    for path, fields in FURNITURE:
        answer = visitors.ask("POST", path, visitors.session("everything"), **fields)
        assert answer.status_code in (200, 303), answer.text
    headers, turn, refused, wrong_ones = visitors.session("everything"), count(), 0, list[str]()
    forms = walked(visitors, headers)
    assert len(forms) > 40
    for form in forms:
        open_fields = [n for n, each in enumerate(form.fields) if each.name != "csrf"]
        for kind, value in WRONG.items():
            for at in {open_fields[next(turn) % len(open_fields)] for _ in range(EACH)} if open_fields else ():
                answer = send(visitors, headers, form, at, value)
                if answer.status_code == 401 or "/login" in answer.headers.get("location", ""):
                    headers = visitors.session("everything")  # What was asked may have ended it.
                refused += 400 <= answer.status_code < 500
                if fault := judged(visitors, headers, form, at, value, answer):
                    wrong_ones.append(f"{form.action} of {form.page}, {kind} in {form.fields[at].name}: {fault}")
    assert refused > 100
    assert wrong_ones == []


def entry(visitors: Visitors, page: str = "/console/entries", **fields: str) -> httpx.Response:
    headers = visitors.session("clerk") | ({"Referer": f"https://localhost{page}"} if page else {})
    good = {"kind": "fee", "subject": "2", "reason": "a visit", "amount": "3"}
    return visitors.ask("POST", "/console/entries", headers, data=good | fields)


def test_wrong_field_is_marked_with_its_sentence_and_has_the_focus(visitors: Visitors) -> None:
    text = entry(visitors, amount="a lot").text
    found = re.search(r'<input id="amount"[^>]*>', text)
    assert found
    for said in ('value="a lot"', 'aria-invalid="true"', 'aria-describedby="amount-wrong"', "autofocus"):
        assert said in found[0]
    assert '<small id="amount-wrong" class="fault">Must be an amount such as 12.50.</small>' in text
    assert '<p role="alert">Dollars: must be an amount such as 12.50. Nothing was changed.</p>' in text
    assert 'value="a visit"' in text
    assert '<option value="fee" selected="">' in text


def test_form_stands_again_without_a_referer_and_at_the_second_mistake(visitors: Visitors) -> None:
    """A form of another page than its address leads back to that page, also after the first mistake."""
    page = "/console/research/kinds/hidden?x=1"
    assert 'name="subject" inputmode' in entry(visitors, page="", subject="0").text
    assert 'name="subject" inputmode' in entry(visitors, page=page, subject="0").text
    asked = visitors.session("admin") | {"Referer": "https://localhost/console/users/clerk"}
    again = visitors.ask("POST", "/console/users/clerk/roles", asked, data={"roles": "clown", "form_page": ""})
    assert again.status_code == 422
    form = again.text.partition('action="/console/users/clerk/roles"')
    assert form[2].partition(">")[2].startswith('<input type="hidden" name="form_page" value="/console/users/clerk">')


def test_page_of_another_site_fills_no_form(visitors: Visitors) -> None:
    headers = {"Origin": "https://evil.example", "Referer": "https://evil.example/console/login"}
    answer = visitors.ask("POST", "/console/login", headers, data={"name": "planted " * 9})
    assert (answer.status_code, "planted" in answer.text) == (422, False)


FAR: list[tuple[str, dict[str, str], str]] = [
    ("/console/accounts/2", {"kind": "move", "at": "2099-01-01", "next": "new"}, "has to be a day from"),
    ("/console/accounts/2", {"kind": "people", "at": "1970-01-01", "name": "Ann"}, "has to be a day from"),
    ("/console/research/agreements", {"name": "far", "until": "2099-01-01"}, "has to be a day from"),
    (
        "/console/alarms/maintenance",
        {"place": "r001", "start": "2099-01-01T00:00", "until": "2099-01-01T01:00", "note": "x"},
        "has to be a day from",
    ),
    ("/console/replay", {"from": "1970-01-01", "to": "1970-01-02"}, "has to be a day from"),
    ("/console/home/weight", {"weight": "5", "start": "2099-01-01"}, "has to be a day from 2027-01-16"),
    (
        "/console/schedules",
        {"action": "schedule", "which": "all", "when": "later", "time": "2099-02-01T02:00", "relay_s": "60"},
        "more than a year ahead",
    ),
]


@pytest.mark.parametrize(("path", "fields", "words"), FAR)
def test_day_of_long_ago_or_far_ahead_is_refused_at_the_first_step(
    visitors: Visitors, path: str, fields: dict[str, str], words: str
) -> None:
    answer = visitors.ask("POST", path, visitors.session("everything"), data=fields)
    assert 400 <= answer.status_code < 500
    assert any(words in said.lower() for said in Pages(path, answer.text).said)


def test_price_that_begins_too_early_or_far_ahead_is_refused_before_its_preview(visitors: Visitors) -> None:
    headers = visitors.session("clerk")
    shown = Pages("", visitors.ask("GET", "/console/rates/new", headers).text).forms
    (form,) = [each for each in shown if each.action == "/console/rates/form"]
    at = [each.name for each in form.fields].index("effective")
    for day, words in (("2020-01-01", "before a published version"), ("2099-01-01", "more than five years from now")):
        answer = send(visitors, headers, form, at, day)
        assert answer.status_code == 422
        assert any(words in said.lower() for said in Pages("", answer.text).said)
        assert f'value="{day}"' in answer.text


def test_every_field_of_a_day_says_its_bounds(visitors: Visitors) -> None:
    headers = visitors.session("everything")
    pages = {each.page for each in walked(visitors, headers)} | {"/console/audit", "/console/settings"}
    texts = {page: visitors.ask("GET", page, headers).text for page in sorted(pages)}
    days = re.compile(r'<input[^>]*type="(?:date|datetime-local|month)"[^>]*>')
    found = [(page, tag) for page, text in texts.items() for tag in days.findall(text)]
    assert len(found) > 8
    assert [each for each in found if " max=" not in each[1]] == []


@pytest.mark.parametrize("path", ["/console/ledger/import", "/console/mail/bounced", "/console/rates/new"])
def test_empty_file_is_refused(visitors: Visitors, path: str) -> None:
    data = {"action": "check"} if path.endswith("new") else {}
    headers = visitors.session("clerk")
    answer = visitors.ask("POST", path, headers, data=data, files={"file": ("empty.csv", b" \n")})
    assert answer.status_code == 422
    assert any("is empty" in said for said in Pages(path, answer.text).said)


def test_format_of_a_file_stands_beside_its_field_and_its_example_is_taken(visitors: Visitors) -> None:
    page = visitors.ask("GET", "/console/ledger", visitors.session("clerk")).text
    assert 'aria-describedby="bank-file"' in page
    found = re.search(r'<a download="bank.csv" href="data:text/plain;charset=utf-8,([^"]+)"', page)
    assert found
    file = ("bank.csv", unquote(found[1]))
    answer = visitors.ask("POST", "/console/ledger/import", visitors.session("clerk"), files={"file": file})
    assert answer.status_code == 200
    assert [words for words in ("2026-12-05 54.00", "2026-12-06 -12.50") if words not in answer.text] == []


def test_what_cannot_work_here_says_why_in_its_place_and_the_way_to_it(visitors: Visitors) -> None:
    headers = visitors.session("everything")
    for path, words, action in (
        ("/console/mail", "the utility has no mail server", 'method="post" action="/console/mail"'),
        ("/console/ledger", "the town has no bank account", "/decide/collect"),
        ("/console/alarms", "Alarms call no phone yet", "/console/alarms/test"),
    ):
        text = visitors.ask("GET", path, headers).text
        assert words in text
        assert "sk the administrator" in text
        assert action not in text
