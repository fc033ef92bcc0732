"""The help that is shown without loading the commands is theirs."""

import pytest
from typer.testing import CliRunner

from commonwatt.cli.main import make_app
from commonwatt.cli.outline import group_in_outline, outline

GROUPS = [name for name, one in outline()["commands"].items() if one.get("commands")]


def help_of(app: object, *words: str) -> str:
    return CliRunner().invoke(app, [*words, "--help"], prog_name="commonwatt").output  # type: ignore[arg-type]


def test_help_without_commands_is_that_with_all_of_them() -> None:
    assert help_of(make_app("")) == help_of(make_app())
    assert "utility" in help_of(make_app(""))


@pytest.mark.parametrize("group", GROUPS)
def test_help_of_a_group_is_the_same_without_its_commands(group: str) -> None:
    assert help_of(group_in_outline(group), group) == help_of(make_app(group), group)


def test_a_command_is_no_group() -> None:
    assert group_in_outline("demo") is None
    assert group_in_outline("nothing") is None
