"""Parts of hand-written pages that are made from the code: they stand between two comments of their name."""

from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def filled(page: str, name: str, made: str) -> str:
    """Return a page of ``docs/`` as it is, with its part ``name`` made anew.

    Raises:
        ValueError: The page has no such part.
    """
    return refilled((DOCS / page).read_text(encoding="utf-8"), name, made)


def refilled(text: str, name: str, made: str) -> str:
    """Return a page's text with its part ``name`` made anew."""
    begin, end = f"<!-- {name}: made by `make docs` -->\n", f"<!-- end of {name} -->\n"
    first, last = text.index(begin) + len(begin), text.index(end)
    return f"{text[:first]}\n{made}\n{text[last:]}"
