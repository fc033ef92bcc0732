"""The code of a label: what a person mistypes is found before anything is sent."""

import pytest

from commonwatt.care.words import Code, Invitation
from commonwatt.model.exceptions import ConfigError

FINGERPRINT = "c0ffee" + "0" * 58


def test_a_code_has_64_random_bits_and_its_towns_fingerprint() -> None:
    codes = [Code.new(FINGERPRINT) for _ in range(100)]
    assert len({code.content[:8] for code in codes}) == 100
    for code in codes:
        assert len(code.words.split()) == 8
        assert Code.parse(f"  {code.words.upper()}\n") == code
        assert code.is_of(FINGERPRINT)
        assert not code.is_of("00" * 32)


def test_words_that_differ_are_refused_before_anything_is_sent() -> None:
    words = Code.new(FINGERPRINT).words.split()
    with pytest.raises(ConfigError, match="a code has 8 words, but here are 7"):
        Code.parse(" ".join(words[1:]))
    with pytest.raises(ConfigError, match=r"word 2, 'abandn', is in no code; is it abandon"):
        Code.parse(" ".join([words[0], "abandn", *words[2:]]))
    with pytest.raises(ConfigError, match="word 8, '1234567', is in no code; is it another word"):
        Code.parse(" ".join([*words[:7], "1234567"]))


def test_nearly_every_exchanged_word_is_found_by_the_checksum() -> None:
    words, other = Code.new(FINGERPRINT).words.split(), Code.new("ab" * 32).words.split()
    accepted = 0
    for at in range(8):
        for word in other:
            try:
                accepted += Code.parse(" ".join([*words[:at], word, *words[at + 1 :]])).words != " ".join(words)
            except ConfigError as error:
                assert "one is wrong, or two are swapped" in str(error)  # noqa: PT017 - of most of many
    assert accepted < 8


def test_the_text_of_a_qr_code_has_address_and_fingerprint_too() -> None:
    code = Code.new(FINGERPRINT)
    made = Invitation(code=code, addresses=("utility.example.org:8444", "10.0.0.2:8444"), fingerprint=FINGERPRINT)
    assert Invitation.parse(f"{made.text}\n") == made
    assert Invitation.parse(code.words) == Invitation(code=code)
    for text in (
        made.text.replace(FINGERPRINT, "ab" * 32),
        made.text.replace(FINGERPRINT, FINGERPRINT[2:]),
        made.text.replace(FINGERPRINT, "no fingerprint"),
        made.text.replace(":8444", ""),
        "commonwatt-join",
    ):
        with pytest.raises(ConfigError):
            Invitation.parse(text)
