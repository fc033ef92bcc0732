"""Passwords and tokens: which are accepted, guessing is slow, and no default anywhere."""

import ast
import hashlib
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from commonwatt.config.files import example
from commonwatt.config.settings import PARTS, settings_of
from commonwatt.identity.devices import (
    Device,
    DeviceRole,
    digest,
    load_devices,
    load_tokens,
    mosquitto_digest,
    new_token,
    save_devices,
    save_tokens,
)
from commonwatt.identity.guesses import AT_PERSON, BY_ADDRESS, BY_OWN_ADDRESS, Guesses
from commonwatt.identity.passwords import MAX_LENGTH, Cost, PasswordHash, load_password, save_password, weakness
from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.files import write_private
from utility.assembly.cli import app

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


DAY_S = 86_400.0
HOME = "192.0.2.7"


def addresses(count: int) -> list[str]:
    return [f"198.51.{n // 250}.{n % 250}" for n in range(count)]


def allowed(guesses: Guesses, name: str, address: str, now: float) -> bool:
    return guesses.guess(name, address, now) == 0


def test_an_address_that_guesses_at_many_people_is_slowed_down() -> None:
    guesses = Guesses()
    counted = sum(allowed(guesses, f"p{n}", HOME, float(n)) for n in range(3600))
    assert counted <= BY_ADDRESS.at_once + 3600 / BY_ADDRESS.each_s + 1


def test_many_addresses_together_get_few_guesses_at_a_person_in_a_day() -> None:
    guesses = Guesses()
    counted = sum(
        allowed(guesses, "admin", address, now) for now in range(0, 86_400, 600) for address in addresses(500)
    )
    assert counted <= AT_PERSON.at_once + DAY_S / AT_PERSON.each_s + 1 == 117


def test_the_owner_logs_in_from_home_while_others_guess() -> None:
    guesses = Guesses()
    assert allowed(guesses, "ann", HOME, 0.0)
    guesses.right("ann", HOME, 0.0)
    for address in addresses(500):
        guesses.guess("ann", address, 10.0)
    for _ in range(50):  # guesses from the same address at another person
        guesses.guess("ben", HOME, 10.0)
    assert not allowed(guesses, "ann", "203.0.113.9", 10.0)
    assert allowed(guesses, "ann", HOME, 10.0)


def test_a_flood_of_refused_guesses_frees_no_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commonwatt.identity.guesses.MAX_KEPT", 200)
    guesses = Guesses()
    assert sum(allowed(guesses, "admin", address, 0.0) for address in addresses(30)) == AT_PERSON.at_once
    for n in range(1000):
        guesses.guess(f"p{n}", HOME, 0.0)
    assert not allowed(guesses, "admin", "203.0.113.9", 0.0)


def test_guesses_at_many_people_from_many_addresses_free_nobody_who_was_guessed_at_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("commonwatt.identity.guesses.MAX_KEPT", 200)
    guesses = Guesses()
    for address in addresses(30):
        guesses.guess("admin", address, 0.0)
    assert all(allowed(guesses, f"p{n}", address, 0.0) for n, address in enumerate(addresses(1000)))
    assert not allowed(guesses, "admin", "203.0.113.9", 0.0)


def test_home_may_be_wrong_a_few_times_only() -> None:
    guesses = Guesses()
    guesses.right("ann", HOME, 0.0)
    counted = sum(allowed(guesses, "ann", HOME, 1.0) for _ in range(100))
    assert counted == BY_OWN_ADDRESS.at_once


def test_logging_in_oneself_gives_no_guesses_at_others() -> None:
    guesses, counted = Guesses(), 0
    for _ in range(200):
        if allowed(guesses, "mallory", HOME, 0.0):
            guesses.right("mallory", HOME, 0.0)
        counted += allowed(guesses, "admin", HOME, 0.0)
    assert counted == BY_ADDRESS.at_once


def test_a_thousand_people_behind_one_address_log_in_at_once() -> None:
    guesses = Guesses()
    for n in range(1000):
        assert allowed(guesses, f"p{n}", HOME, 0.0)
        guesses.right(f"p{n}", HOME, 0.0)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.floats(0, 500)), max_size=60))
def test_a_refusal_says_when_a_guess_is_allowed(asked: list[tuple[str, str, float]]) -> None:
    guesses, now = Guesses(), 0.0
    for name, address, later in asked:
        now += later
        if wait_s := guesses.guess(name, address, now):
            now += wait_s + 0.001
            assert allowed(guesses, name, address, now)


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
    ("broker/connect.py", "TOKEN"),  # the name of a reason
    ("commonwatt/network/tls.py", "password"),  # empty: keys have none, and nobody is asked for one
    ("commonwatt/identity/enrolment.py", "METER_SECRETS"),  # the name of a file
    ("commonwatt/site/devices_broker.py", "PASSWORDS_FILE"),  # the name of a file
    ("commonwatt/site/draft.py", "PASSWORD"),  # the name of a file
    ("commonwatt/site/draft.py", "password"),  # empty: the one that is there stays
    ("commonwatt/site/places.py", "ADAPTER_TOKENS"),  # the name of a file
    ("commonwatt/site/places.py", "key"),  # the name of a setting
    ("gateway/links.py", "token"),  # empty: the household's broker has a user, or none
    ("utility/access/people.py", "TOKEN"),  # how an actor proved its identity
    ("utility/access/secrets.py", "TOKEN_PREFIX"),  # the public start of each token
    ("utility/database/database.py", "key"),  # the name of a row
    ("utility/exports/columns.py", "KEY"),  # the meaning of a kind of column
    ("utility/database/base.py", "key"),  # the name of a column
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


def device(identity: str, token: str) -> Device:
    return Device(identity=identity, role=DeviceRole.METER, microgrid="r001", token_sha256=digest(token.encode()))


def test_only_the_devices_own_token_opens() -> None:
    token, other = new_token(), new_token()
    it = device("77", token)
    assert it.owns(token.encode())
    for wrong in (other, "", token[:-1], token + "x", it.token_sha256, "\N{SNOWMAN}"):
        assert not it.owns(wrong.encode())


def test_files_read_back_and_are_this_users_alone(tmp_path: Path) -> None:
    tokens = {"77": new_token(), "r001": new_token()}
    devices = [device(identity, token) for identity, token in tokens.items()]
    save_tokens(tmp_path / "tokens.json", tokens)
    save_devices(tmp_path / "devices.json", devices)
    assert load_tokens(tmp_path / "tokens.json") == tokens
    assert load_devices(tmp_path / "devices.json") == {d.identity: d for d in devices}
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"tokens.json", "devices.json"}


def test_mosquittos_digest_is_the_same_for_the_same_token_alone(tmp_path: Path) -> None:
    one, other = mosquitto_digest(b"one"), mosquitto_digest(b"other")
    assert one == mosquitto_digest(b"one")
    assert one.split("$")[:3] == other.split("$")[:3] == ["", "7", "1"]
    assert not set(one.split("$")[3:]) & set(other.split("$")[3:])
    save_devices(tmp_path / "devices.json", [replace(device("77", "one"), mosquitto=one)])
    assert load_devices(tmp_path / "devices.json")["77"].mosquitto == one


def test_private_file_replaces_one_others_could_read(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_that_stands_there_already_is_written_into(tmp_path: Path) -> None:
    path, others = tmp_path / "tokens.json", tmp_path / "others"
    others.write_text("of somebody else")
    for name in ("tokens.json", "tokens.json.new"):
        (tmp_path / name).symlink_to(others)
    write_private(path, "secret")
    assert others.read_text() == "of somebody else"
    assert (path.is_symlink(), path.read_text()) == (False, "secret")


def test_what_can_not_be_written_leaves_the_old_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    write_private(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_private(path, "\udc80")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("tokens.json", "old")]
