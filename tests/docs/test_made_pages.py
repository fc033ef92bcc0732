"""Pages, and parts of pages, that are made from the code are what the code makes."""

import pytest

from harness.docs.generate import pages
from harness.docs.marked import DOCS


@pytest.mark.parametrize("name", pages())
def test_page_is_what_the_code_says(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == pages()[name](), f"docs/{name} is out of date: run make docs"
