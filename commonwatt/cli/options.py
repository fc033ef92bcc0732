"""Groups of commands, and options that commands of several parts have."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, TypeVar, cast

import typer

from commonwatt.runtime.service import errors_reported

LimitOption = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="The most rows to show.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

_C = TypeVar("_C", bound=Callable[..., Any])


class Commands(typer.Typer):
    """A group of commands that report their errors, and whose help flows in any terminal's width."""

    def command(self, *arguments: Any, **options: Any) -> Callable[[_C], _C]:
        """Return the decorator that adds a command."""
        add = super().command(*arguments, **options)

        def added(command: _C) -> _C:
            paragraphs = (inspect.getdoc(command) or "").split("\n\n")
            command.__doc__ = "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)

            @wraps(command)
            def run(*given: Any, **named: Any) -> object:
                with errors_reported():
                    return command(*given, **named)

            return add(cast("_C", run))

        return added
