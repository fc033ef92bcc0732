"""The gateway's commands, where there is nothing to be shown yet, and the page's password."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from commonwatt.identity.passwords import load_password
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


def set_password(folder: Path, typed: str, setting: str = 'http_password = "page-password.json"\n') -> Result:
    (folder / "gateway.toml").write_text(f'[gateway]\nmicrogrid = "r001"\n{setting}')
    return CliRunner().invoke(app, ["password", "--config", str(folder / "gateway.toml")], input=typed)


def test_a_password_is_asked_for_twice_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    done = set_password(tmp_path, "seven small lanterns\nseven small lanterns\n")
    assert (done.exit_code, "written" in done.stdout, "lanterns" in done.output) == (0, True, False)
    made = tmp_path / "page-password.json"
    assert made.stat().st_mode & 0o777 == 0o600
    assert load_password(made).fits("seven small lanterns")


def test_a_password_typed_differently_or_too_weak_changes_nothing(tmp_path: Path) -> None:
    assert set_password(tmp_path, "seven small lanterns\nseven small lantern\n").exit_code != 0
    done = set_password(tmp_path, "password1234\npassword1234\n")
    assert (done.exit_code, "guessed first; nothing was changed" in done.stderr) == (2, True)
    assert not (tmp_path / "page-password.json").exists()


def test_without_a_file_for_the_password_it_is_told_what_to_add(tmp_path: Path) -> None:
    done = set_password(tmp_path, "", setting="")
    assert (done.exit_code, 'add: http_password = "page-password.json"' in done.stderr) == (2, True)
