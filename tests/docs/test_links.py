"""Every link of the pages to another page, a file or a heading leads somewhere."""

import re
from pathlib import Path

import pytest

from harness.docs.generate import pages_for_people, without_blocks, without_code
from harness.docs.marked import DOCS

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HTML = re.compile(r"(?:src|href)=\"([^\"]+)\"")


def anchors(page: Path) -> set[str]:
    """The anchors GitHub gives a page's headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *$", without_blocks(page.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = 0
        while (anchor := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(anchor)
    return found


def links() -> list[tuple[Path, str]]:
    return [
        (page, target)
        for page in pages_for_people()
        for target in LINK.findall(without_code(page.read_text())) + HTML.findall(without_code(page.read_text()))
    ]


@pytest.mark.parametrize(
    ("page", "target"), links(), ids=lambda value: value.name if isinstance(value, Path) else value
)
def test_link_leads_somewhere(page: Path, target: str) -> None:
    if re.match(r"[a-z]+:", target):
        return
    path, _, anchor = target.partition("#")
    there = (page.parent / path).resolve() if path else page
    assert there.exists(), f"{page.name}: no {path}"
    assert there.is_relative_to(DOCS.parent), f"{page.name}: {path} leads out of the project"
    if anchor:
        assert anchor in anchors(there), f"{page.name}: {there.name} has no heading #{anchor}"


def test_there_are_links() -> None:
    assert len(links()) > 20
