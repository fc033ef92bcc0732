"""The API's HTML pages: Swagger UI with every route, and the runbooks. They load nothing from other servers."""

import re
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
"""Content-Security-Policy of the runbooks: no script runs."""

DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""That of the API's page: Swagger UI sets styles of its own."""

_STYLE = (
    "body{font-family:sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "section{border-top:1px solid #ccc;padding:.5em 0}label{display:block;margin:.3em 0}small{color:#555}"
)


def docs_page(address: Callable[[str], str]) -> str:
    """Return the page (HTML) on which Swagger UI shows the API, with the addresses of static files by their names."""
    scripts = "".join(f'<script src="{address(name)}" defer></script>' for name in ("swagger-ui-bundle.js", "docs.js"))
    return (
        '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Commonwatt utility: the API</title>'
        f'<link rel="icon" href="{address("icon.svg")}"><link rel="stylesheet" href="{address("swagger-ui.css")}">'
        f'{scripts}<main id="viewer"></main></html>'
    )


def for_people(description: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI description with two examples of each route."""
    found = deepcopy(description)
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            operation["description"] = operation.get("description", "") + _examples(method, path)
    return found


def _examples(method: str, path: str) -> str:
    body = "" if method == "get" else " --json @body.json"
    asked = "" if method == "get" else ", json=body"
    return (
        f"\n\nWith curl and in Python, with a token of your account's page:\n\n"
        f"    curl -X {method.upper()} -H 'Authorization: Bearer TOKEN'{body} 'https://UTILITY{path}'\n"
        f'    httpx.{method}("https://UTILITY{path}", headers={{"Authorization": "Bearer TOKEN"}}{asked}).json()\n'
    )


@cache
def _runbooks() -> str:
    return Path(__file__).with_name("runbooks.md").read_text(encoding="utf-8")


def first_step(name: str) -> str:
    """Return what an alarm's section in the runbooks says to do, as text."""
    section = _runbooks().partition(f"## {name}\n")[2].partition("\n## ")[0]
    step = section.partition("**Do.** ")[2].partition("\n\n")[0]
    return " ".join(re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", step).split()) or "see the runbook"


@cache
def runbooks_page() -> str:
    """Return the runbooks (HTML). Each alert's section has its name in lower case as anchor."""
    from markdown_it import MarkdownIt  # Loaded for this page alone.

    markdown = MarkdownIt().enable("table")
    tokens = markdown.parse(_runbooks())
    for heading, title in pairwise(tokens):
        if heading.type == "heading_open":
            heading.attrSet("id", title.content.lower())
    for inline in tokens:
        links = [token for token in inline.children or () if token.type == "link_open"]
        for link in links:
            if not str(link.attrs["href"]).startswith("#"):
                del link.attrs["href"]  # A page of the repository, which is not served.
    body = markdown.renderer.render(tokens, markdown.options, {})
    head = f'<meta charset="utf-8"><title>Runbooks</title><style>{_STYLE}</style>'
    return f'<!DOCTYPE html><html lang="en">{head}{body}</html>'
