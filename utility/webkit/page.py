"""The API's HTML pages: every endpoint with a form, and the runbooks. They load nothing from other servers."""

from functools import cache
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
"""Content-Security-Policy of the pages: no script runs."""

_STYLE = (
    "body{font-family:sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "section{border-top:1px solid #ccc;padding:.5em 0}label{display:block;margin:.3em 0}small{color:#555}"
)


def page(description: dict[str, Any]) -> str:
    """Return the page (HTML) of an OpenAPI description: a form for each GET without parameters in its path."""
    info = description["info"]
    questions = "".join(
        _question(path, operation) if method == "get" and "{" not in path else _told_only(path, method, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    )
    return (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f"<style>{_STYLE}</style><h1>{escape(info['title'])}</h1><p>{escape(info.get('description', ''))} "
        f'For programs: <a href="/openapi.json">openapi.json</a>.</p>{questions}</html>'
    )


@cache
def runbooks_page() -> str:
    """Return the runbooks (HTML). Each alert's section has its name in lower case as anchor."""
    markdown = MarkdownIt().enable("table")
    tokens = markdown.parse(Path(__file__).with_name("runbooks.md").read_text(encoding="utf-8"))
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


def _told_only(path: str, method: str, operation: dict[str, Any]) -> str:
    said = "".join(f"<p>{escape(text)}</p>" for text in operation.get("description", "").split("\n\n"))
    return f"<section><h2>{escape(method.upper())} {escape(path)}</h2>{said}</section>"


def _question(path: str, operation: dict[str, Any]) -> str:
    said = "".join(f"<p>{escape(text)}</p>" for text in operation.get("description", "").split("\n\n"))
    # A form sends an empty field as empty text, which is not a valid value: optional parameters are only listed.
    parameters = operation.get("parameters", ())
    asked = [p for p in parameters if p["required"] or "default" in p["schema"]]
    optional = [p for p in parameters if p not in asked]
    also = f"<p>Optional: {', '.join(_told(parameter) for parameter in optional)}.</p>" if optional else ""
    return (
        f"<section><h2>{escape(path)}</h2>{said}{also}"
        f'<form action="{escape(path)}">{"".join(map(_input, asked))}<button>Send</button></form></section>'
    )


def _told(parameter: dict[str, Any]) -> str:
    return f"<code>{escape(parameter['name'])}</code> ({escape(parameter.get('description', ''))})"


def _input(parameter: dict[str, Any]) -> str:
    name, default = escape(parameter["name"]), escape(str(parameter["schema"].get("default", "")))
    about = escape(parameter.get("description", ""))
    return f'<label>{name} <input name="{name}" value="{default}" required> <small>{about}</small></label>'
