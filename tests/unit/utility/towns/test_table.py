"""The table of the towns: what is refused."""

from pathlib import Path

import pytest

from commonwatt.model.exceptions import ConfigError
from utility.towns.table import load_towns

SERVER = "postgresql+psycopg://commonwatt:secret@127.0.0.1"
NORTH = f'[towns.north]\ndatabase = "{SERVER}/north"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "towns.toml"


def test_a_relative_folder_is_taken_from_the_table(path: Path) -> None:
    path.write_text(f'{NORTH}files = "files/north"\n')
    assert load_towns(path)["north"].files == path.parent / "files" / "north"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[towns.north]\nfiles = "one"\n', "line 1: towns.north.database: missing"),
        ('[towns.north]\ndatabase = "mysql://u:secret@h/n"\n', "line 2: towns.north.database: mysql is not supported"),
        (f'{NORTH}utilities = ["u1:8080"]\n', "line 3: towns.north.utilities.0: must match the pattern ^https?"),
        (f"{NORTH}owner = 1\n", "line 3: towns.north.owner: unknown key; known here: database, utilities"),
        (NORTH.replace("north]", "North]"), "towns.North.[key]: must match the pattern"),
        ("[town.north]\n", "town: unknown key; known here: towns"),
        (
            f'{NORTH}[towns.south]\ndatabase = "postgresql+psycopg://other@127.0.0.1:5432/north"\n',
            "towns.south.database: is the database of north too",
        ),
    ],
)
def test_a_wrong_table_is_refused_with_its_file_and_key(path: Path, text: str, said: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_towns(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_missing_table_says_how_to_begin_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"docs/cluster\.md"):
        load_towns(tmp_path / "towns.toml")
