"""A person's password: its hash, its file, and which passwords are accepted."""

import hashlib
import stat
from pathlib import Path

import pytest

from commonwatt.identity.passwords import (
    MAX_LENGTH,
    Cost,
    PasswordHash,
    load_password,
    save_password,
    weakness,
)
from commonwatt.model.exceptions import ConfigError

GOOD = "seven small lanterns"
CHEAP = Cost(log_n=10, r=1, p=1)


def test_the_password_fits_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "page-password.json"
    save_password(path, GOOD)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert GOOD not in path.read_text()
    kept = load_password(path)
    assert kept.fits(GOOD)
    assert not kept.fits(GOOD.upper())
    assert kept.cost == Cost()


def test_a_hash_is_scrypt_as_others_compute_it() -> None:
    kept = PasswordHash.of(GOOD, CHEAP)
    assert kept.hash == hashlib.scrypt(GOOD.encode(), salt=kept.salt, n=1024, r=1, p=1, dklen=32)
    assert kept.salt != PasswordHash.of(GOOD, CHEAP).salt


def test_a_hash_with_older_parameters_is_still_checked() -> None:
    kept = PasswordHash.parse(PasswordHash.of(GOOD, CHEAP).text())
    assert (kept.cost, kept.fits(GOOD)) == (CHEAP, True)


def test_composed_and_decomposed_letters_are_one_password() -> None:
    assert PasswordHash.of("schöne Grüße aus", CHEAP).fits("scho\u0308ne Gru\u0308ße aus")


@pytest.mark.parametrize("typed", ["", "x" * 100_000, "\0", "\ud800"])
def test_odd_passwords_fit_nothing(typed: str) -> None:
    assert not PasswordHash.of(GOOD, CHEAP).fits(typed)


def test_the_key_of_local_programs_changes_with_the_password_and_is_not_the_hash() -> None:
    one, two = PasswordHash.of(GOOD, CHEAP), PasswordHash.of(GOOD, CHEAP)
    assert len(one.local_key()) == 64
    assert one.local_key() not in (two.local_key(), one.hash.hex())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"password": 5}',
        '{"password": "secret"}',
        '{"password": "scrypt$14$8$5$AAAA$AAAA"}',
        '{"password": "scrypt$30$8$5$AAAAAAAAAAAAAAAAAAAAAA==$' + "A" * 43 + '="}',
        '{"password": "scrypt$20$32$1$AAAAAAAAAAAAAAAAAAAAAA==$' + "A" * 43 + '="}',
        '{"password": "scrypt$14$8$-5$AAAAAAAAAAAAAAAAAAAAAA==$' + "A" * 43 + '="}',
        '{"password": "scrypt$14$8$5$?$?"}',
    ],
)
def test_another_file_is_refused_with_the_command_that_makes_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "page-password.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="commonwatt gateway password"):
        load_password(path)


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("short", "shorter"),
        ("x" * (MAX_LENGTH + 1), "longer"),
        ("abababababab", "different"),
        ("password1234", "guessed first"),
        ("Commonwatt-r001", "guessed first"),
        ("r001r001r001-abcd", "guessed first"),
        ("qwerty1234567890", "guessed first"),
    ],
)
def test_a_password_that_is_guessed_first_is_refused(password: str, why: str) -> None:
    assert why in (weakness(password, ("r001",)) or "")


def test_a_good_password_is_accepted() -> None:
    assert weakness(GOOD, ("r001",)) is None
