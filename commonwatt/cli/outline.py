"""The help of commands without the commands, whose import takes seconds: ``outline.json``, made by ``make docs``."""

import json
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import typer

FILE = Path(__file__).with_name("outline.json")

Outline: TypeAlias = dict[str, Any]  # ``help``; of a group also ``commands``: the outlines of its commands, in order


@cache
def outline() -> Outline:
    """Return the outline of ``commonwatt``."""
    found: Outline = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def group_in_outline(name: str) -> typer.Typer | None:
    """Return a program that only shows the help of one group; ``None``: there is none, or it has options of its own."""
    if not outline()["commands"].get(name, {}).get("commands"):
        return None
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    add_outline(app, (), name)
    return app


def add_outline(app: typer.Typer, group: tuple[str, ...], name: str) -> None:
    """Add a command, or a group with its commands, that shows the help's line and does nothing.

    Args:
        group: The groups that it is in, below ``commonwatt``.
    """
    found = outline()
    for word in (*group, name):
        found = found["commands"].get(word, {"help": None})
    if "commands" not in found:
        app.command(name, help=found["help"])(lambda: None)
        return
    inner = typer.Typer(no_args_is_help=True, help=found["help"])
    for each in found["commands"]:
        add_outline(inner, (*group, name), each)
    app.add_typer(inner, name=name)
