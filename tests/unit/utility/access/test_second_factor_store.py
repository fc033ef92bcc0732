"""Second factors on every database: parallel requests use a code once and get no guess more than is allowed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from harness.authenticator import shown, wrong
from harness.real import databases
from utility.access.actor import Actor, Via
from utility.access.one_time import STEP_S, WRONG_AT_ONCE
from utility.access.roles import Role
from utility.access.rules import AccessFaultError
from utility.access.store import access, audit_log, second_factors, started_logins
from utility.access.store.acting import By
from utility.database.database import Database
from utility.people.store import listed

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
        entries = audit_log.entries(connection, audit_log.Wanted(subject="ann"), 9)
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
        first, second = (started_logins.start(connection, "ann", NOW) for _ in range(2))
        assert started_logins.person_of(connection, first, NOW + started_logins.LASTS_S - 1) == "ann"
        assert started_logins.person_of(connection, first, NOW + started_logins.LASTS_S) is None
        assert [started_logins.take(connection, first) for _ in range(2)] == [True, False]
        access.set_password(connection, "ann", "another hash")
        assert started_logins.person_of(connection, second, NOW) is None


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
