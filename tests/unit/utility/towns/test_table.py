"""The table of the towns: what is refused, and that it is kept as it was."""

from pathlib import Path

import pytest

from commonwatt.model.exceptions import ConfigError
from utility.towns.table import Town, load_towns, save_towns

SERVER = "postgresql+psycopg://commonwatt:secret@127.0.0.1"
NORTH = f'[towns.north]\ndatabase = "{SERVER}/north"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "towns.toml"


def test_towns_are_loaded_as_they_were_saved(path: Path) -> None:
    towns = {
        "north": Town(
            database=f"{SERVER}/north",
            head_ends=("h1.example:8883", "h2.example:8883"),
            utilities=("https://u1.example:8080",),
            stanza="one",
            files=path.with_name("north"),
        ),
        "south": Town(database=f"{SERVER}/south"),
    }
    save_towns(path, towns)
    assert load_towns(path) == towns
    assert [*load_towns(path)] == ["north", "south"]
    assert path.stat().st_mode & 0o077 == 0


def test_a_relative_folder_is_taken_from_the_table(path: Path) -> None:
    path.write_text(f'{NORTH}files = "files/north"\n')
    assert load_towns(path)["north"].files == path.parent / "files" / "north"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[towns.north]\nstanza = "one"\n', "line 1: towns.north.database: missing"),
        ('[towns.north]\ndatabase = "mysql://u:secret@h/n"\n', "line 2: towns.north.database: mysql is not supported"),
        (f'{NORTH}head_ends = ["h1"]\n', "line 3: towns.north.head_ends.0: must be HOST:PORT"),
        (f'{NORTH}utilities = ["u1:8080"]\n', "line 3: towns.north.utilities.0: must match the pattern ^https?"),
        (f"{NORTH}owner = 1\n", "line 3: towns.north.owner: unknown key; known here: database, head_ends"),
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


def test_a_table_with_one_database_twice_is_not_written(path: Path) -> None:
    town = Town(database=f"{SERVER}/north")
    save_towns(path, {"north": town})
    with pytest.raises(ConfigError, match=r"towns\.south\.database"):
        save_towns(path, {"north": town, "south": town})
    assert [*load_towns(path)] == ["north"]


def test_a_missing_table_says_how_to_begin_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="towns add"):
        load_towns(tmp_path / "towns.toml")
