"""Every command is on its page, and every command the pages name is one."""

from pathlib import Path

import pytest

from commonwatt.config.files import check_file
from commonwatt.config.parts import PARTS
from harness.docs.generate import all_commands, blocks_of, code_of, command_of, commands_page, pages_for_people


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
