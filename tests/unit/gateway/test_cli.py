"""The gateway's commands, where there is nothing to be shown yet."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.store.store import Store


@pytest.mark.parametrize("command", ["dump", "dead-letters", "lte"])
def test_without_a_store_it_is_told_what_makes_it(tmp_path: Path, command: str) -> None:
    folder = tmp_path / "a%20b?c"
    folder.mkdir()
    (folder / "gateway.toml").write_text('[gateway]\nmicrogrid = "r001"\n')
    words = [command, "--config", str(folder / "gateway.toml")]
    done = CliRunner().invoke(app, words)
    told = f"{folder}/gateway.db: no store there; it is made by: commonwatt gateway run --config FILE\n"
    assert (done.exit_code, done.stderr) == (2, told)
    assert not (folder / "gateway.db").exists()
    Store.open(folder / "gateway.db").close()
    assert CliRunner().invoke(app, words).exit_code == 0
