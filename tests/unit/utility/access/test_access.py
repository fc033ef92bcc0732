"""Who a person is, and when it takes two: refused passwords, one-time codes, second factors, second people."""

import random
import string
from base64 import b32encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from commonwatt.config.files import load_settings
from commonwatt.model.exceptions import ConfigError
from harness.console import shown, wrong
from harness.surroundings import databases
from utility.access.decisions import Second, refusal, seconds, words_of
from utility.access.people import AccessFaultError, Actor, Role, Via
from utility.access.secrets import (
    STEP_S,
    WRONG_AT_ONCE,
    WRONG_EACH_S,
    after_wrong_code,
    code_of,
    common_passwords,
    grouped,
    is_code,
    new_recovery_code,
    new_seed,
    password_fault,
    read,
    step_of,
    uri_of,
)
from utility.access.store import access, audit_log, second_factors
from utility.access.store.audit_log import By, Standing
from utility.database.database import Database
from utility.people.store import listed
from utility.settings import UtilitySettings


def test_every_common_password_is_refused() -> None:
    listed = common_passwords()
    assert len(listed) > 19_000
    long_enough = [word for word in listed if len(word) >= 12]
    assert len(long_enough) > 150
    assert [word for word in long_enough if password_fault(word) is None] == []


def test_common_passwords_with_a_number_or_two_joined_are_refused() -> None:
    # 3,000 passwords that meet the minimum of 12 characters, made of the common ones as people do it.
    words = sorted(word for word in common_passwords() if 8 <= len(word) <= 10)[:1500]
    made = [word.capitalize() + "2026!" for word in words] + [f"{word}_{word[0]}12" for word in words]
    assert len(made) == 3_000
    assert [word for word in made if len(word) >= 12 and password_fault(word) is None] == []


@pytest.mark.parametrize(
    "password",
    ["P@ssw0rd1234!", "liverpoolfc2023", "Michael1234567", "abc12abc12abc12", "Ann Miller 1987", "annmillerann26"],
)
def test_weak_passwords_of_people_are_refused(password: str) -> None:
    assert password_fault(password, "ann", "Ann Miller") is not None


@pytest.mark.parametrize(
    "password", ["three slow green boats", "blue kettle march", "kX9#vLp2qWz7", "пять синих лодок"]
)
def test_good_passwords_are_accepted(password: str) -> None:
    assert password_fault(password, "ann", "Ann Miller") is None


def test_random_passwords_are_accepted() -> None:
    rng = random.Random(5)
    for _ in range(300):
        password = "".join(rng.choices(string.ascii_letters + string.digits, k=12))
        assert password_fault(password, "ann") is None or len(set(password)) < 6


RFC_SEED = b32encode(b"12345678901234567890").decode()  # the secret of RFC 6238, appendix B

RFC_CODES = {
    59: "94287082",
    1111111109: "07081804",
    1111111111: "14050471",
    1234567890: "89005924",
    2000000000: "69279037",
    20000000000: "65353130",
}
"""Its codes by time, with eight digits; six are the last of them."""

CODE_NOW = 1_800_000_015


@pytest.mark.parametrize("time", RFC_CODES)
def test_codes_are_those_of_the_standard(time: int) -> None:
    assert code_of(RFC_SEED, time // STEP_S) == RFC_CODES[time][-6:]


@given(late_s=st.integers(-120, 120))
def test_code_is_right_within_a_step_before_and_after(late_s: int) -> None:
    steps = (CODE_NOW + late_s) // STEP_S - CODE_NOW // STEP_S
    found = step_of(code_of(RFC_SEED, CODE_NOW // STEP_S), RFC_SEED, CODE_NOW + late_s, 0)
    assert found == (CODE_NOW // STEP_S if abs(steps) <= 1 else None)


def test_code_of_a_used_or_earlier_step_is_refused() -> None:
    present = CODE_NOW // STEP_S
    for step in (present - 1, present, present + 1):
        code = code_of(RFC_SEED, step)
        assert step_of(code, RFC_SEED, CODE_NOW, step - 1) == step
        assert step_of(code, RFC_SEED, CODE_NOW, step) is None


def test_codes_are_read_as_people_type_them() -> None:
    assert read(" 123 456\n") == "123456"
    assert read("abcd-efgh 2345") == "ABCDEFGH2345"
    assert [is_code(read(text)) for text in ("123456", "12345", "١٢٣٤٥٦", "")] == [True, False, False, False]
    assert grouped("ABCDEFGH2") == "ABCD EFGH 2"


def test_apps_get_the_secret_with_its_settings() -> None:
    uri = urlsplit(uri_of("anna", RFC_SEED))
    assert (uri.scheme, uri.netloc, uri.path) == ("otpauth", "totp", "/Commonwatt:anna")
    assert parse_qs(uri.query) == {
        "secret": [RFC_SEED],
        "issuer": ["Commonwatt"],
        "algorithm": ["SHA1"],
        "digits": ["6"],
        "period": ["30"],
    }


def test_secrets_are_long_and_never_the_same() -> None:
    """ASVS 6.5.2 and 6.5.3: 160 and 120 bits, so that a plain hash may keep the codes."""
    assert {len(new_seed()) * 5 for _ in range(50)} == {160}
    assert {len(new_recovery_code()) * 5 for _ in range(50)} == {120}
    assert len({new_seed() for _ in range(50)} | {new_recovery_code() for _ in range(50)}) == 100


def test_a_day_of_guesses_gets_few_codes_checked() -> None:
    until, checked = 0, 0
    for now in range(CODE_NOW, CODE_NOW + 86_400, 10):
        wait_s, after = after_wrong_code(until, now)
        if wait_s == 0:
            until, checked = after, checked + 1
    assert checked == WRONG_AT_ONCE + 86_400 // WRONG_EACH_S - 1


@given(ahead_s=st.integers(0, 10**9))
def test_a_clock_that_was_ahead_locks_nobody_out(ahead_s: int) -> None:
    assert after_wrong_code(CODE_NOW + ahead_s, CODE_NOW)[0] <= WRONG_EACH_S


DAY = 86_400


def one(name: str, *makers: str, changed: int | None = None) -> Standing:
    both = frozenset({Role.CLERK, Role.APPROVER})
    return Standing(name=name, roles=both, makers=frozenset(makers), changed=changed)


def refused(people: list[Standing], name: str, first: str, now: int = 100 * DAY) -> str:
    actor = Actor(name=name, roles=frozenset({Role.APPROVER}), account=None, via=Via.SESSION, address="")
    return refusal({p.name: p for p in people}, Second(actor=actor, now=now, wait_days=7), {first: "proposed it"})


def test_people_second_person_is_another_one() -> None:
    people = [one("anna"), one("ben")]
    assert refused(people, "ben", "anna") == ""
    assert "anna proposed it; a second person" in refused(people, "anna", "anna")


def test_people_neither_of_two_made_the_other() -> None:
    people = [one("anna"), one("ben", "anna", changed=0), one("eve", "root", changed=0)]
    for name, first in (("ben", "anna"), ("anna", "ben")):
        assert "made the link, gave the roles or removed the second factor" in refused(people, name, first)
    assert refused(people, "eve", "anna") == refused(people, "eve", "ben") == refused(people, "ben", "eve") == ""


def test_people_changed_by_another_one_wait_and_the_refusal_has_the_date() -> None:
    people = [one("anna"), one("ben", "root", changed=100 * DAY)]
    assert "root changed link, roles or second factor of ben, who may be the second from 1970-04-18" in refused(
        people, "ben", "anna", 107 * DAY - 1
    )
    assert refused(people, "ben", "anna", 107 * DAY) == ""
    assert refused(people, "anna", "ben", 101 * DAY) == "", "the first may propose at once"


@pytest.mark.parametrize("nobody", ["service", "", "root@this-machine", "this-machine", "was-removed"])
def test_people_what_nobody_did_first_needs_a_person_again(nobody: str) -> None:
    assert "is no person who logs in; a person has to do that again" in refused([one("ben")], "ben", nobody)


def test_people_who_may_says_who_and_from_when() -> None:
    people = {p.name: p for p in (one("anna"), one("ben", "root", changed=100 * DAY), one("eve", "anna", changed=0))}
    assert seconds(people, ["anna"], 7) == {"ben": 107 * DAY}
    assert seconds(people, ["ben"], 7) == {"anna": 0, "eve": 7 * DAY}
    assert seconds(people, ["ben"], 0) == {"anna": 0, "eve": 0}
    assert words_of(seconds(people, ["anna"], 7), 106 * DAY) == "ben from 1970-04-18 00:00:00Z"
    assert words_of({}, 0).startswith("nobody; an administrator")


def test_people_no_wait_is_for_a_demonstration_alone() -> None:
    with pytest.raises(ValidationError, match="is for a demonstration with a `clock` alone"):
        UtilitySettings(second_person_wait_days=0)
    assert UtilitySettings(second_person_wait_days=0, clock=Path("clock.json")).second_person_wait_days == 0
    assert (UtilitySettings().second_person_wait_days, UtilitySettings().second_factor) == (7, "approvers")


def test_people_in_the_file_is_an_error_that_names_the_next_step(tmp_path: Path) -> None:
    file = tmp_path / "utility.toml"
    file.write_text('[utility]\n[utility.billing]\npeople = ["anna", "ben"]\n')
    with pytest.raises(ConfigError, match=r"people: is no setting any more: .* commonwatt login"):
        load_settings(file, "utility", UtilitySettings)


NOW = 1_800_000_000


@pytest.fixture
def ann(database: Database) -> Actor:
    roles = frozenset({Role.ADMIN})
    person = access.Person(name="ann", display="Ann", state="active", roles=roles, account=None, created=NOW)
    with database.writes.begin() as connection:
        access.add_person(connection, person, "test")
        access.set_password(connection, "ann", "a hash")
    return Actor(name="ann", roles=roles, account=None, via=Via.SESSION, address="127.0.0.1")


@pytest.fixture
def do(database: Database, ann: Actor) -> Callable[..., object]:
    """Return a function that calls another one with a transaction of its own."""

    def call(function: Callable[..., object], *values: object, now: int = NOW) -> object:
        with database.writes.begin() as connection:
            return function(By(connection=connection, actor=ann, now=NOW, machine_s=now), *values)

    return call


def set_up(do: Callable[..., object]) -> tuple[str, list[str]]:
    seed = str(do(second_factors.offer))
    codes = do(second_factors.confirm, seed, shown(seed, NOW))
    assert isinstance(codes, list)
    return seed, codes


def together(count: int, act: Callable[[int], object]) -> list[object]:
    start = Barrier(count)

    def one(number: int) -> object:
        start.wait()
        return act(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))


@databases.on_both_kinds
def test_code_and_recovery_code_are_used_once_by_parallel_requests(
    do: Callable[..., object], database: Database
) -> None:
    seed, codes = set_up(do)
    later = NOW + STEP_S
    for text in (shown(seed, later), codes[3]):
        proofs = together(4, lambda _, text=text: do(second_factors.prove, "ann", text, now=later))  # type: ignore[misc]
        assert proofs.count(second_factors.Proof(True)) == 1
    with database.reads.begin() as connection:
        factor = second_factors.in_force(connection, "ann")
        entries = audit_log.entries(connection, audit_log.AuditFilter(subject="ann"), 9)
    assert factor == second_factors.Factor(since=NOW, recovery_codes=9)
    assert [one["action"] for one in entries] == ["person.recovery-code", "person.second-factor"]


@databases.on_both_kinds
def test_parallel_guesses_are_counted(do: Callable[..., object]) -> None:
    seed, _ = set_up(do)
    guess = wrong(seed, NOW)
    proofs = together(WRONG_AT_ONCE + 4, lambda _: do(second_factors.prove, "ann", guess))
    assert [proof.wait_s > 0 for proof in proofs].count(True) == 4  # type: ignore[attr-defined]


def test_started_login_is_taken_once_and_ends_with_the_password(database: Database, ann: Actor) -> None:
    with database.writes.begin() as connection:
        first, second = (second_factors.start(connection, "ann", NOW) for _ in range(2))
        assert second_factors.person_of(connection, first, NOW + second_factors.LASTS_S - 1) == "ann"
        assert second_factors.person_of(connection, first, NOW + second_factors.LASTS_S) is None
        assert [second_factors.take(connection, first) for _ in range(2)] == [True, False]
        access.set_password(connection, "ann", "another hash")
        assert second_factors.person_of(connection, second, NOW) is None


def test_second_factor_is_listed_and_removed(do: Callable[..., object], database: Database) -> None:
    def since() -> int | None:
        with database.reads.begin() as connection:
            found = listed(connection, "ann", NOW)
        assert found is not None
        return found.second_factor

    seed = str(do(second_factors.offer))
    assert since() is None, "an offer is not in force"
    with pytest.raises(AccessFaultError, match="too long ago"):
        do(second_factors.confirm, seed, shown(seed, NOW), now=NOW + second_factors.OFFERED_S)
    set_up(do)
    assert since() == NOW
    with pytest.raises(AccessFaultError, match="this is you"):
        do(second_factors.remove_of_another, "ann")
    do(second_factors.remove, "ann")
    assert since() is None
    with pytest.raises(AccessFaultError, match="has no second factor"):
        do(second_factors.remove, "ann")
    assert do(second_factors.prove, "ann", shown(seed, NOW)) == second_factors.Proof(False)


def test_owner_logs_in_with_two_codes_in_a_row_while_others_guess(do: Callable[..., object]) -> None:
    """A person who knows the password alone uses up the guesses; the owner of the app gets in all the same."""
    seed, _ = set_up(do)
    for _ in range(WRONG_AT_ONCE):
        do(second_factors.prove, "ann", wrong(seed, NOW))
    later = NOW + 2 * STEP_S
    first, second = shown(seed, later - STEP_S), shown(seed, later)
    assert do(second_factors.prove, "ann", second, now=later).wait_s > 0  # type: ignore[attr-defined]
    for pair in (second + first, first + first, wrong(seed, later) + second, first + wrong(seed, later)):
        assert do(second_factors.prove, "ann", pair, now=later) == second_factors.Proof(False), pair
    assert do(second_factors.prove, "ann", f"{first} {second}", now=later) == second_factors.Proof(True)
    assert do(second_factors.prove, "ann", first + second, now=later) == second_factors.Proof(False), "used"
