"""Builds a checked command to a gateway from the fields that a person gave (pure); a fault names its fields."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from commonwatt.config.faults import plain
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import MAX_EPOCH, EpochSeconds
from commonwatt.protocol.controller_commands import Action, ControllerCommand
from commonwatt.protocol.json_messages import MAX_COMMAND_BYTES

# The keys of a ``ControllerCommand`` beside ``id``, ``cmd`` and ``until``; keys that were not given are absent.
Fields = Mapping[str, Any]
_ID_BYTES = 64  # most bytes by which a command's final id is longer than the id that is used in a check
# Commands that only the service sends.
NOT_ASKED = frozenset({Action.RATES, Action.ASSIGN, Action.UPGRADE, Action.WITNESS, Action.SPARE})


class FieldsError(ConfigError):
    """The fields of a command are wrong."""

    def __init__(self, fields: Iterable[str], problem: str) -> None:
        self.fields = tuple(sorted(fields))  # the names of the fields
        self.problem = problem  # what is wrong; ``{}`` stands for the names
        super().__init__(self.named(str))

    def named(self, name: Callable[[str], str]) -> str:
        """Return the text, with each field as ``name`` calls it."""
        return self.problem.format(", ".join(map(name, self.fields)))


def checked_command(action: Action, fields: Fields, until: EpochSeconds, new_id: str) -> ControllerCommand:
    """Return the command.

    Args:
        action: What to do.
        fields: The fields that were given.
        until: When the command is no longer wanted.
        new_id: Its id, never used before.
    """
    if action in NOT_ASKED:
        raise FieldsError((), f"{action}: only the service sends this command")
    _check_names(action, fields)
    try:
        command = ControllerCommand.model_validate(
            {"id": new_id, "cmd": action.value, "until": min(until, MAX_EPOCH), **fields}
        )
    except ValidationError as error:
        fault = error.errors()[0]
        text = plain(fault)
        found = _escaped(f"{text} (found {fault['input']!r})")
        named = [str(key) for key in fault["loc"][:1]]
        raise FieldsError(named, f"{{}}: {found}" if named else _escaped(text)) from error
    if command.first_quarter is not None and command.first_quarter > (command.last_quarter or 0):
        raise FieldsError(("first_quarter",), "{} must not be after the last")
    if len(command.pack()) > MAX_COMMAND_BYTES - _ID_BYTES:
        raise FieldsError(fields, f"{action}: {{}}: more than {MAX_COMMAND_BYTES} bytes in one command")
    return command


def _check_names(action: Action, fields: Fields) -> None:
    needed = {"first_quarter", "last_quarter"} if action is Action.GET else set(action.needed)
    needed |= {"strategy"} if action is Action.SHARING else set()
    needed |= {"for_s"} & {*action.optional} if fields.get("state") == "on" else set()
    allowed = {*action.needed, *action.optional} - {"blocks", "weights"}  # weights are told from the registry
    if missing := {name for name in needed if fields.get(name) is None}:
        raise FieldsError(missing, f"{action} needs {{}}")
    if extra := fields.keys() - allowed:
        raise FieldsError(extra, f"{action} does not take {{}}")
    if action is Action.SCHEDULE and not fields.get("periods") and not fields.get("meters"):
        raise FieldsError(("periods", "meters"), "give at least one of {}")


def _escaped(text: str, before: str = "") -> str:
    return before + text.replace("{", "{{").replace("}", "}}")
