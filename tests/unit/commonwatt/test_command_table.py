"""The table of commands is complete and minimal: each row of C7 has a command, each command and key a test."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from commonwatt.protocol.controller_commands import HOSTED, Action
from commonwatt.protocol.plant_messages import PlantAction, PlantCommand

TESTS = Path(__file__).parents[2]
PAGE = (TESTS.parent / "docs" / "protocol.md").read_text(encoding="utf-8")

SEALED = {"grant"}  # of C7, a sealed message among controllers (docs/controllers.md), no command of the head-end

C7 = {
    "aggregate": {"aggregate", "deaggregate"},
    "reduce demand": {"reduce", "supply", "spare"},
    "utility offline (operate isolated)": {"notice", "isolate", "hold"},
    "rates": {"rates"},
    "assignments": {"assign", "grant"},
    "system info": {"system_info", "report", "discover"},
    "schedules": {"schedule", "sharing"},
    "data requests": {"get"},
    "stop of a meter": {"stop"},
    "a new program": {"upgrade"},
    "what was placed for it": {"unpack"},
    "the check code of bills": {"witness"},
}
"""The rows of C7 and the meters' ``stop`` (M5), with their commands.
``sharing`` schedules a strategy."""


def literals(tree: ast.AST) -> Iterator[tuple[str, set[str]]]:
    """Yield (command, keys) of each call with ``cmd=`` and each dictionary with ``"cmd":`` in some code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            pairs: list[tuple[object, ast.expr]] = [(keyword.arg, keyword.value) for keyword in node.keywords]
        elif isinstance(node, ast.Dict):
            items = zip(node.keys, node.values, strict=True)
            pairs = [(key.value if isinstance(key, ast.Constant) else None, value) for key, value in items]
        else:
            continue
        named = {str(key): value for key, value in pairs if key is not None}
        cmd = named.get("cmd")
        if isinstance(cmd, ast.Constant):
            yield str(cmd.value), set(named)
        elif isinstance(cmd, ast.Attribute):
            yield cmd.attr.lower(), set(named)


@cache
def used() -> dict[str, set[str]]:
    """The keys with which each command is used in any test but this one."""
    found: dict[str, set[str]] = {}
    for path in TESTS.rglob("test_*.py"):
        if path != Path(__file__):
            for command, keys in literals(ast.parse(path.read_text(encoding="utf-8"))):
                found.setdefault(command, set()).update(keys)
    return found


def test_every_command_and_key_of_the_table_is_used_by_a_test() -> None:  # req: C7
    lacking = {
        action.value: missing
        for action in Action
        if (missing := ({*action.needed, *action.optional} | {"cmd"}) - used().get(action.value, set()))
    }
    assert lacking == {}


def test_every_row_of_the_specification_has_a_command_and_every_command_a_row() -> None:  # req: C7
    commands = {action.value for action in Action}
    for row, done_by in C7.items():
        assert done_by & (commands | SEALED), row
    assert set().union(*C7.values()) == commands | SEALED
    section = PAGE.split("### Commands and outcomes")[1].split("### Heartbeat")[0]
    table = dict(re.findall(r"^\| ([a-z ()]+) \| ((?:`[a-z_]+`(?:, )?)+) \|$", section, re.MULTILINE))
    assert {row: set(re.findall(r"`(\w+)`", text)) for row, text in table.items()} == C7


def test_every_command_and_key_of_the_plant_is_used_by_a_test() -> None:
    assert {action.value for action in PlantAction} <= used().keys()
    tests = (TESTS / "unit" / "meter_sim" / "test_plant_core.py").read_text(encoding="utf-8")
    for key in set(PlantCommand.model_fields) - {"v"}:
        assert re.search(rf"\b{key}\b", tests), key


def test_commands_that_are_in_no_table_are_sent_by_tests_of_refusals_alone() -> None:
    meters = {
        "initialize",
        "stop",
        "put",
        "share_power_on",
        "share_power_off",
        "reduce_power_on",
        "reduce_power_off",
        "limit_import",
        "put_every",
        "revoked",
    }
    known = {HOSTED} | {a.value for a in Action} | {a.value for a in PlantAction} | meters
    assert used().keys() - known <= {"explode", "new_command", "share", "x"}
