"""A mistyped command or option."""

import re

import pytest
from typer.testing import CliRunner

from commonwatt.cli.main import make_app


@pytest.mark.parametrize(
    ("line", "near"),
    [
        ("gatway run", "gateway"),
        ("site pac", "pack"),
        ("swap metre", "meter"),
        ("utility people invit", "invite"),
        ("status --confg x", "--config"),
        ("site pack r001 --sit x", "--site"),
    ],
)
def test_a_mistyped_command_or_option_is_answered_with_the_nearest(line: str, near: str) -> None:
    words = line.split()
    done = CliRunner().invoke(make_app(words[0]), words)
    assert done.exit_code == 2
    assert re.search(rf"(Did you mean|Possible options:).*{near}", done.output)
