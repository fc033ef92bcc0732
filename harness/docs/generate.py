"""Writes the pages of ``docs/`` that are made from the code: commands, metrics, faults, the report's keys, settings;
and the part of ``docs/reference/benchmarks.md`` that is made from results.

``make docs`` runs it; ``tests/docs`` compares the pages with what it makes.
"""

import inspect
import json
import re
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import typer

from commonwatt.cli.main import Outline, make_app
from harness.docs.marked import DOCS, filled, refilled
from harness.docs.measured import BENCHMARKS, kept, made_page
from harness.docs.metrics import all_metrics, rules_file
from harness.docs.reliability import reliability_page
from harness.docs.tables import KEYS, console_page, controllers_page, exports_page, presets_page, reference, tour
from harness.routes import routes_page

_MADE = "Made from the code by `make docs`; a test compares the two.\n"


def pages() -> dict[str, Callable[[], str]]:
    """Return the function that makes each page, by its name in ``docs/``."""
    return {
        "../commonwatt/cli/outline.json": outlined,
        "../grafana/prometheus/rules.yml": rules_file,
        "console.md": console_page,
        "controllers.md": controllers_page,
        "exports.md": exports_page,
        "reference/benchmarks.md": benchmarks_page,
        "reference/commands.md": commands_page,
        "reference/console-routes.md": routes_page,
        "reference/metrics.md": metrics_page,
        "reference/presets.md": presets_page,
        "reference/settings.md": reference,
        "reliability.md": reliability_page,
        "scenarios.md": scenarios_page,
    }


def _outline_of(command: Any) -> Outline:
    """Return the outline of a click command: of its help, what a list of commands shows."""
    if not hasattr(command, "commands"):
        return {"help": (command.help or "").partition("\n\n")[0]}
    # A group with options of its own is shown by itself.
    inner = {} if command.params else command.commands
    return {"help": command.help, "commands": {name: _outline_of(one) for name, one in inner.items()}}


def outlined() -> str:
    """Return the outline of all commands, for their help."""
    top = typer.main.get_command(make_app())
    commands = {name: _outline_of(one) for name, one in top.commands.items()}  # type: ignore[attr-defined]
    return json.dumps({"help": top.help, "commands": commands}, indent=1) + "\n"


def main() -> None:
    """Write every page."""
    for name, make in pages().items():
        (DOCS / name).write_text(make(), encoding="utf-8")
        print(f"docs/{name}")


# Commands


@dataclass(frozen=True)
class Option:
    """An option or argument."""

    names: tuple[str, ...]  # its spellings, such as ``--limit``; an argument's name in capitals
    value: str  # the placeholder of its value, such as ``N``; empty for a switch or an argument
    text: str  # its purpose
    note: str  # whether it is required, its default, its choices

    @property
    def is_argument(self) -> bool:
        """Whether it is positional."""
        return not self.names[0].startswith("-")


@dataclass(frozen=True)
class Command:
    """One command, not a group."""

    words: tuple[str, ...]  # its words after ``commonwatt``
    text: str  # its help
    options: tuple[Option, ...]  # its arguments and options


@cache
def all_commands() -> tuple[Command, ...]:
    """Return every command, in the order of ``commonwatt --help``."""
    return tuple(_walk(typer.main.get_command(make_app()), ()))


# Depending on its release, Typer uses its own copy of click or the installed one; both have this interface.
def command_of(words: Sequence[str]) -> Command | None:
    """Return the command that the words after ``commonwatt`` name, options aside; ``None``: there is none."""
    known = {command.words: command for command in all_commands()}
    return next((known[start] for n in (3, 2, 1) if (start := tuple(words[:n])) in known), None)


def _walk(command: Any, words: tuple[str, ...]) -> Iterator[Command]:
    inner: dict[str, Any] = getattr(command, "commands", {})
    for name, child in inner.items():
        yield from _walk(child, (*words, name))
    if not inner:
        hints = typing.get_type_hints(inspect.unwrap(command.callback))
        options = tuple(_option(param, hints.get(param.name)) for param in command.params if param.name != "help")
        yield Command(words, inspect.cleandoc(command.help or ""), options)


def _option(param: Any, hint: object) -> Option:
    is_argument = not param.opts[0].startswith("-")
    switch = bool(getattr(param, "is_flag", False))
    notes = []
    if choices := _choices(hint):
        notes.append("one of " + ", ".join(f"`{choice}`" for choice in choices))
    if param.required:
        notes.append("must be given")
    elif not switch and param.default is not None:
        notes.append(f"default `{param.default}`")
    if _is_list(hint):
        notes.append("may be given several times")
    return Option(
        names=(param.name.upper(),) if is_argument else tuple(param.opts),
        value="" if switch or is_argument else param.metavar or _value(hint, param.opts[0]),
        text=" ".join((param.help or "").split()),
        note="; ".join(notes),
    )


def _value(hint: object, name: str) -> str:
    """Return the placeholder of a value, from its type or its option's name."""
    kinds = {Path: "PATH", int: "N", float: "N"}
    found = (kinds.get(kind) for kind in (hint, *typing.get_args(hint)) if isinstance(kind, type))
    return next((kind for kind in found if kind), name.lstrip("-").upper().replace("-", "_"))


def _choices(hint: object) -> list[str]:
    kinds = [hint, *typing.get_args(hint)]
    words = [word for kind in kinds if typing.get_origin(kind) is typing.Literal for word in typing.get_args(kind)]
    enums = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum)]
    return words + [str(member.value) for kind in enums for member in kind]


def _is_list(hint: object) -> bool:
    return any(typing.get_origin(kind) is list for kind in (hint, *typing.get_args(hint)))


def commands_page() -> str:
    """Return ``docs/reference/commands.md``."""
    lines = [
        "# Commands",
        "",
        _MADE,
        "Each of these explains itself: add `--help`. `commonwatt --version` prints the version. Exit codes: 0 done,",
        "1 it could not be done (or an audit found something amiss), 2 a file or an argument is wrong.",
        "",
        "Two options are not repeated: `--config PATH`, `-c PATH`, the part's file (TOML), and `--json`, JSON in place",
        "of a table. What the usage names must be given.",
        "",
    ]
    for command in all_commands():
        lines += [f"## commonwatt {' '.join(command.words)}", "", f"`{_usage(command)}`", ""]
        lines += [command.text, ""]
        told = [option for option in command.options if not {*option.names} & _COMMON]
        lines += [f"- {_names(option)}: {option.text}{_noted(option)}" for option in told]
        lines += [""] if told else []
    return "\n".join(lines).rstrip() + "\n"


_COMMON = {"--config", "--json"}  # options that are the same of each command


def _noted(option: Option) -> str:
    note = option.note.removeprefix("must be given").strip("; ,")
    return f" ({note})" if note else ""


def _usage(command: Command) -> str:
    words = ["commonwatt", *command.words]
    words += [option.names[0] for option in command.options if option.is_argument]
    for option in command.options:
        if not option.is_argument and "must be given" in option.note:
            words.append(f"{option.names[0]} {option.value}")
    if any(not option.is_argument and "must be given" not in option.note for option in command.options):
        words.append("[OPTIONS]")
    return " ".join(words)


def _names(option: Option) -> str:
    value = f" {option.value}" if option.value else ""
    return ", ".join(f"`{name}{value}`" for name in option.names)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# Metrics


def metrics_page() -> str:
    """Return ``docs/reference/metrics.md``."""
    lines = [
        "# Metrics",
        "",
        _MADE,
        "Every part serves these to Prometheus at `/metrics` of its `http` address. No label names a meter, customer",
        "or account; `controller` is the gateway's microgrid. Counters start at 0 with the process, except for the",
        "meters' readings and events, which continue from their store. Times are seconds. Series that an alert",
        "watches exist from the start, as 0; some others only after their first count. Metrics derived from the",
        "utility's database are NaN until their first count after a start. A histogram has the usual series",
        "`_bucket`, `_sum` and `_count`.",
        "",
    ]
    for part, metrics in all_metrics().items():
        lines += [f"## {part}", "", "| metric | type | labels | meaning |", "|---|---|---|---|"]
        for info in metrics:
            labels = ", ".join(f"`{label}`" for label in info.labels)
            lines.append(f"| `{info.name}` | {info.kind} | {labels} | {_cell(info.text)} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


# The demonstration's report


def scenarios_page() -> str:
    """Return ``docs/scenarios.md`` as it is, with the keys of the demonstration's report and the tour made anew."""
    lines = ["| key | meaning |", "|---|---|"] + [f"| `{key}` | {_cell(text)} |" for key, text in KEYS.items()]
    return refilled(filled("scenarios.md", "keys", "\n".join(lines) + "\n"), "tour", tour())


# Benchmarks


def benchmarks_page() -> str:
    """Return ``docs/reference/benchmarks.md``: its present text, with the stored results."""
    return made_page((DOCS / "reference/benchmarks.md").read_text(encoding="utf-8"), kept(list(BENCHMARKS)))


# Markdown, for the tests


RUNBOOKS = DOCS.parent / "utility" / "webkit" / "runbooks.md"


def pages_for_people() -> list[Path]:
    """Return every Markdown page of the project."""
    root = DOCS.parent
    return [
        root / "README.md",
        root / "CHANGELOG.md",
        *sorted(DOCS.rglob("*.md")),
        RUNBOOKS,
    ]


_BLOCK = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", re.DOTALL | re.MULTILINE)


def without_blocks(text: str) -> str:
    """Return Markdown without its blocks of code."""
    return _BLOCK.sub("", text)


def without_code(text: str) -> str:
    """Return Markdown without its blocks and spans of code."""
    return re.sub(r"`[^`\n]*`", "", without_blocks(text))


def blocks_of(text: str) -> list[tuple[str, str]]:
    """Return (language, content) of a page's code blocks."""
    return [(language, inspect.cleandoc(content)) for language, content in _BLOCK.findall(text)]


def code_of(text: str) -> list[str]:
    """Return the lines of a page's code blocks, and its code spans."""
    lines = [line for _, content in blocks_of(text) for line in content.replace("\\\n", " ").splitlines()]
    return lines + [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", without_blocks(text))]


if __name__ == "__main__":
    main()
