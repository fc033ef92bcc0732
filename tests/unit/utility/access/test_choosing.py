"""Passwords that are guessed first are refused when they are chosen (ASVS 6.2.4, 6.2.11), others are not."""

import random
import string

import pytest

from utility.access.choosing import common_passwords, password_fault


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
