"""One word for each quantity: the glossary's table is the code's, and no page has another word."""

import re
from pathlib import Path

from commonwatt.settlement.settled import QUANTITY_WORDS

ROOT = Path(__file__).parents[2]
OTHER_WORDS = re.compile(r"\b(imported|exported|shared in|shared out|got from|from the grid)\b", re.IGNORECASE)
CODE = re.compile(r"{{.*?}}|{%.*?%}|{#.*?#}|<code>.*?</code>|<[^>]*>", re.DOTALL)


def test_the_glossary_has_the_words_of_each_quantity() -> None:
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| ([a-z ]+) \| `(\w+)` \|", text, re.MULTILINE))
    for quantity, words in QUANTITY_WORDS.items():
        assert table[words] == quantity.name.lower()


def test_no_page_has_another_word_for_a_quantity() -> None:
    found = [
        (path.name, word)
        for path in sorted(ROOT.glob("utility/*/templates/*.html"))
        for word in OTHER_WORDS.findall(CODE.sub(" ", path.read_text(encoding="utf-8")))
    ]
    assert found == []
