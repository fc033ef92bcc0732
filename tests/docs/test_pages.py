"""Pages: links lead somewhere, made parts are what the code makes, commands, metrics and words are the code's."""

import ast
import re
from pathlib import Path

import pytest

from commonwatt.config.files import check_file
from commonwatt.config.settings import PARTS, settings_of
from harness.docs.generate import (
    all_commands,
    blocks_of,
    code_of,
    command_of,
    commands_page,
    pages,
    pages_for_people,
    without_blocks,
    without_code,
)
from harness.docs.marked import DOCS
from harness.docs.metrics import MetricInfo, all_metrics
from harness.docs.tables import reference
from utility.energy.quarters import QUANTITY_WORDS

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HTML = re.compile(r"(?:src|href)=\"([^\"]+)\"")
_NAMED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


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


@pytest.mark.parametrize("name", pages())
def test_page_is_what_the_code_says(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == pages()[name](), f"docs/{name} is out of date: run make docs"


def test_page_has_a_row_for_every_key_of_every_part() -> None:
    text = reference()
    for part in PARTS:
        model = settings_of(part)
        section = text.split(f"## [{part}]\n")[1].split("\n## ")[0]
        own, *others = section.split("\n### ")
        rows = [line.split("`")[1] for line in own.splitlines() if line.startswith("| `")]
        titles = {title.partition("\n")[0] for title in others}
        inside = {f"[{part}.{key}]" for key in model.model_fields if key not in rows and key not in model.lists}
        assert titles == inside | {f"[[{key}]] of [{part}]" for key in model.lists}
        assert set(rows) <= set(model.model_fields)


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


def test_every_command_and_option_has_a_help_text() -> None:
    for command in all_commands():
        assert command.text, f"commonwatt {' '.join(command.words)} has no help"
        for option in command.options:
            assert option.text, f"commonwatt {' '.join(command.words)}: {option.names[0]} has no help"


def named_commands() -> list[tuple[str, str]]:
    """What the pages show to be typed: lines of code blocks and code spans that begin with ``commonwatt``."""
    found = []
    for page in pages_for_people():
        for code in code_of(page.read_text()):
            line = code.strip().removeprefix("$ ").removeprefix(".venv/bin/").partition(" #")[0]
            if line.startswith("commonwatt "):
                found.append((page.name, line))
    return found


@pytest.mark.parametrize(("page", "line"), named_commands())
def test_every_command_the_pages_name_exists(page: str, line: str) -> None:
    del page
    words = line.split()[1:]
    if words[0].startswith("-"):
        assert words[0] in ("--help", "--version")
        return
    command = command_of(words)
    groups = {c.words[:n] for c in all_commands() for n in (1, 2)}
    group = tuple(word for word in words if word != "--help")
    assert command is not None or group in groups, f"no such command: {line}"
    if command is not None:
        options = {name for option in command.options for name in option.names} | {"--help"}
        used = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert used <= options, f"no such option: {sorted(used - options)} in {line}"


def shown_files() -> list[tuple[str, str]]:
    """Files of a part that the pages show whole."""
    blocks = [block for page in pages_for_people() for block in blocks_of(page.read_text())]
    starts = tuple(f"[{part}]" for part in PARTS)
    return [
        (content.partition("\n")[0], content)
        for kind, content in blocks
        if kind == "toml" and content.startswith(starts)
    ]


@pytest.mark.parametrize(("table", "content"), shown_files())
def test_every_file_the_pages_show_passes_its_check(table: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / "shown.toml"
    path.write_text(content)
    assert f"[{check_file(path)}]" == table


def test_the_pages_show_a_file_of_every_part() -> None:
    assert {table for table, _ in shown_files()} == {f"[{part}]" for part in PARTS}


def test_limit_of_a_command_without_dead_letters_does_not_name_them() -> None:
    sections = commands_page().split("\n## ")
    wrong = [one.splitlines()[0] for one in sections if "--limit" in one and "most dead letters" in one]
    assert [name for name in wrong if "dead-letters" not in name] == []


METRICS = [(part, info) for part, metrics in all_metrics().items() for info in metrics]
NOT_BASE_UNITS = {"ms", "us", "milliseconds", "minutes", "hours", "days", "kb", "kib", "percent", "mwh", "kwh", "wh"}
OF_THE_SCRAPE = {"job", "instance", "part", "place"}
PRIVATE = {"meter", "customer", "account", "household", "location", "address", "id"}


@pytest.mark.parametrize(("part", "info"), METRICS, ids=[info.name for _, info in METRICS])
def test_metric_follows_the_conventions(part: str, info: MetricInfo) -> None:
    prefix = "process" if part == "every part" else f"commonwatt_{part}"
    assert re.fullmatch(rf"{prefix}(_[a-z][a-z0-9]*)*", info.name)
    assert info.name.endswith("_total") == (info.kind == "counter")
    assert info.kind in ("counter", "gauge", "histogram")
    assert not set(info.name.split("_")) & NOT_BASE_UNITS, "base units are seconds, bytes, ratios"
    assert not set(info.labels) & PRIVATE, "no label tells whose data it is"
    assert not set(info.labels) & OF_THE_SCRAPE, "Prometheus gives these itself, and would rename ours"
    assert info.text.endswith("."), "help is a sentence"


def test_names_are_used_once() -> None:
    names = [info.name for _, info in METRICS]
    assert len(set(names)) == len(names)


def test_the_way_of_a_reading_is_the_codes() -> None:
    text = (DOCS / "architecture.md").read_text().split("### The way of a reading inside a gateway")[1]
    callers: list[tuple[int, set[str]]] = []  # by indent, the names that a function uses
    for indent, name, file in re.findall(r"^( *)([\w.]+) +(\w+/[\w/]+\.py) ", text.split("```")[1], re.MULTILINE):
        scope: list[ast.stmt] = ast.parse((DOCS.parent / file).read_text()).body
        for part in name.split("."):
            found = [node for node in scope if isinstance(node, _NAMED) and node.name == part]
            assert found, f"{file}: no {name}"
            scope = found[0].body
        callers = [caller for caller in callers if caller[0] < len(indent)]
        assert not callers or part in callers[-1][1], f"{name} is not called where the page says"
        nodes = list(ast.walk(found[0]))
        used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        callers.append((len(indent), used | {node.id for node in nodes if isinstance(node, ast.Name)}))
    assert len(callers) > 1
