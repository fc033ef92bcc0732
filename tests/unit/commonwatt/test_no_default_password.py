"""No default password anywhere (ETSI EN 303 645, 5.1): no setting has one, and no two installations share a secret."""

import ast
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commonwatt.config.files import example
from commonwatt.config.parts import PARTS, settings_of
from commonwatt.identity.devices import load_devices, load_tokens, new_token
from utility.assembly.cli import app

ROOT = Path(__file__).resolve().parents[3]
SECRET = re.compile(r"passw|token|secret|credential|(^|_)key$", re.IGNORECASE)
TOWN = 'microgrid = [{id = "r", kind = "residential", count = 1, houses = 1}]\n'


def register(folder: Path) -> str:
    folder.mkdir()
    (folder / "town.toml").write_text(TOWN)
    words = ["--town", str(folder / "town.toml"), "--database", f"sqlite:///{folder / 'u.db'}", "--out", str(folder)]
    done = CliRunner().invoke(app, ["register", *words])
    assert done.exit_code == 0, done.output
    return done.output


def secrets_in(folder: Path) -> set[str]:
    return {token for path in folder.glob("*/*-tokens.json") for token in load_tokens(path).values()}


def test_no_setting_holds_a_secret_or_has_one_as_its_default() -> None:
    for part in PARTS:
        model = settings_of(part)
        for key, field in model.model_fields.items():
            if SECRET.search(key):
                of_its_own = field.annotation in (Path, Path | None)
                assert of_its_own, f"{part}.{key}: secrets stand in files of their own"
        assert not re.search(r"^[^#]*passw", example(part), re.IGNORECASE | re.MULTILINE)


def assigned() -> Iterator[tuple[str, int, str, str]]:
    """Every text that the sources give to a name, an argument or a key that sounds like a secret."""
    for package in ("commonwatt", "gateway", "utility", "meter_sim", "broker"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                pairs: list[tuple[str, ast.expr | None]] = []
                if isinstance(node, ast.Assign):
                    pairs = [(target.id, node.value) for target in node.targets if isinstance(target, ast.Name)]
                elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    pairs = [(node.target.id, node.value)]
                elif isinstance(node, ast.keyword) and node.arg:
                    pairs = [(node.arg, node.value)]
                elif isinstance(node, ast.arguments):
                    named = [*node.args[len(node.args) - len(node.defaults) :], *node.kwonlyargs]
                    pairs = [(a.arg, d) for a, d in zip(named, [*node.defaults, *node.kw_defaults], strict=True)]
                for name, value in pairs:
                    if SECRET.search(name) and isinstance(value, ast.Constant) and isinstance(value.value, str | bytes):
                        yield (
                            str(path.relative_to(ROOT)),
                            node.lineno if hasattr(node, "lineno") else 0,
                            name,
                            str(value.value),
                        )


ALLOWED = {
    ("broker/admission/connect.py", "TOKEN"),  # the name of a reason
    ("commonwatt/network/tls.py", "password"),  # empty: keys have none, and nobody is asked for one
    ("commonwatt/identity/enrolment.py", "METER_SECRETS"),  # the name of a file
    ("commonwatt/site/places.py", "ADAPTER_TOKENS"),  # the name of a file
    ("gateway/household/link.py", "token"),  # empty: the household's broker has a user, or none
    ("utility/access/actor.py", "TOKEN"),  # how an actor proved its identity
    ("utility/access/secrets.py", "TOKEN_PREFIX"),  # the public start of each token
    ("utility/database/database.py", "key"),  # the name of a row
    ("utility/exports/columns.py", "KEY"),  # the meaning of a kind of column
    ("utility/database/tables.py", "key"),  # the name of a column
    ("utility/readings/tables.py", "key"),  # the name of a column
}


def test_no_source_has_a_secret_written_into_it() -> None:
    found = [(path, name, value) for path, _, name, value in assigned() if (path, name) not in ALLOWED]
    assert found == []


def test_two_installations_of_one_town_share_no_secret(tmp_path: Path) -> None:
    register(tmp_path / "one")
    register(tmp_path / "two")
    one, two = secrets_in(tmp_path / "one"), secrets_in(tmp_path / "two")
    assert len(one) == len(two) > 3
    assert not one & two
    assert all(len(token) == len(new_token()) == 43 for token in one), "256 bits in base64url"


def test_registration_prints_no_secret_and_nobody_else_reads_one(tmp_path: Path) -> None:
    printed = register(tmp_path / "one")
    for token in secrets_in(tmp_path / "one"):
        assert token not in printed
    for path in (tmp_path / "one").glob("*/*.json"):
        if path.name != "registry.json":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_brokers_keep_no_token(tmp_path: Path) -> None:
    register(tmp_path / "one")
    tokens = secrets_in(tmp_path / "one")
    for path in (tmp_path / "one").glob("*/devices.json"):
        assert load_devices(path)
        assert not [token for token in tokens if token in path.read_text()]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_without_its_secrets_does_not_start(part: str, tmp_path: Path) -> None:
    """What holds secrets is a file that has to be made: there is nothing to fall back on."""
    for key, field in settings_of(part).model_fields.items():
        if key in ("tokens", "devices"):
            assert isinstance(field.default, Path)
            with pytest.raises(Exception, match="commonwatt utility register"):
                (load_tokens if key == "tokens" else load_devices)(tmp_path / field.default)


def test_nobody_else_reads_what_a_command_writes(tmp_path: Path) -> None:
    (tmp_path / "town.toml").write_text(TOWN)
    out, database = tmp_path / "out", tmp_path / "new" / "utility.db"
    words = ["--town", str(tmp_path / "town.toml"), "--database", f"sqlite:///{database}", "--out", str(out)]
    subprocess.run([sys.executable, "-m", "commonwatt", "utility", "register", *words], check=True, umask=0o022)
    made = [database, *(path for path in (out, database.parent) for path in (path, *path.rglob("*")))]
    assert len(made) > 10
    assert [path for path in made if path.stat().st_mode & 0o077] == []
