"""One-time codes are those of every authenticator app, are right for a short time, and can't be guessed."""

from base64 import b32encode
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utility.access.one_time import (
    STEP_S,
    WRONG_AT_ONCE,
    WRONG_EACH_S,
    after_wrong_code,
    code_of,
    grouped,
    is_code,
    read,
    step_of,
    uri_of,
)
from utility.access.secrets import new_recovery_code, new_seed

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

NOW = 1_800_000_015


@pytest.mark.parametrize("time", RFC_CODES)
def test_codes_are_those_of_the_standard(time: int) -> None:
    assert code_of(RFC_SEED, time // STEP_S) == RFC_CODES[time][-6:]


@given(late_s=st.integers(-120, 120))
def test_code_is_right_within_a_step_before_and_after(late_s: int) -> None:
    steps = (NOW + late_s) // STEP_S - NOW // STEP_S
    found = step_of(code_of(RFC_SEED, NOW // STEP_S), RFC_SEED, NOW + late_s, 0)
    assert found == (NOW // STEP_S if abs(steps) <= 1 else None)


def test_code_of_a_used_or_earlier_step_is_refused() -> None:
    present = NOW // STEP_S
    for step in (present - 1, present, present + 1):
        code = code_of(RFC_SEED, step)
        assert step_of(code, RFC_SEED, NOW, step - 1) == step
        assert step_of(code, RFC_SEED, NOW, step) is None


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
    for now in range(NOW, NOW + 86_400, 10):
        wait_s, after = after_wrong_code(until, now)
        if wait_s == 0:
            until, checked = after, checked + 1
    assert checked == WRONG_AT_ONCE + 86_400 // WRONG_EACH_S - 1


@given(ahead_s=st.integers(0, 10**9))
def test_a_clock_that_was_ahead_locks_nobody_out(ahead_s: int) -> None:
    assert after_wrong_code(NOW + ahead_s, NOW)[0] <= WRONG_EACH_S
