"""The people of a demonstration are invited though a visitor kills what starts."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from commonwatt.demo.people import TRIES, invited
from commonwatt.model.exceptions import ConfigError

LINKS = '[{"role": "clerk", "link": "http://127.0.0.1/1"}]'


def layout_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: int) -> Any:
    """Return a layout whose command is killed so many times, and then answers."""
    program, count = tmp_path / "python", tmp_path / "count"
    program.write_text(
        f"#!/bin/sh\necho >> {count}\nif [ $(wc -l < {count}) -le {killed} ]; then kill -9 $$; fi\necho '{LINKS}'\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return SimpleNamespace(part=lambda _: SimpleNamespace(config=tmp_path / "utility.toml"))


def test_a_command_that_is_killed_runs_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with invited(layout_with(tmp_path, monkeypatch, killed=TRIES - 1)) as links:
        assert links == {}
    assert links == {"clerk": "http://127.0.0.1/1"}


def test_the_reason_is_never_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(ConfigError, match="could not be invited: the command ended with -9"),
        invited(layout_with(tmp_path, monkeypatch, killed=TRIES)),
    ):
        pass
