"""Certificates and lists of revocations that are damaged: one kind of error, whatever the damage."""

import base64
import warnings
from collections.abc import Callable

from commonwatt.identity.certificates import Signer, expires_at, pem, revoked_serials
from commonwatt.model.exceptions import ConfigError
from harness.real.enrolled import DAY_S, now

SIGNER = Signer.new("test", now(), DAY_S)
CA, REVOKED = pem(SIGNER.certificate).encode(), SIGNER.revocations({17: now(), 18: now()}).encode()


def accepted(read: Callable[[bytes], object], text: bytes) -> list[object]:
    """Return what is read from the texts that differ from ``text`` in one byte of what it says; the rest is refused."""
    first, *middle, last = text.splitlines()
    content = base64.b64decode(b"".join(middle))
    found = []
    for at in range(len(content)):
        for flip in (0x01, 0x20, 0x80, 0xFF):
            damaged = content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :]
            try:
                # Of some damage cryptography warns, which here is an error, that it will be one some day.
                with warnings.catch_warnings(action="ignore"):
                    found.append(read(first + b"\n" + base64.encodebytes(damaged) + last + b"\n"))
            except ConfigError:
                continue
    return found


def test_a_list_of_revocations_with_a_flipped_bit_is_refused_or_says_the_same() -> None:
    assert revoked_serials(REVOKED, CA) == {17, 18}
    assert all(each == {17, 18} for each in accepted(lambda damaged: revoked_serials(damaged, CA), REVOKED))


def test_an_authority_with_a_flipped_bit_is_refused_or_believes_the_same_list() -> None:
    # Much of a certificate concerns neither its key nor its end.
    found = accepted(lambda damaged: revoked_serials(REVOKED, damaged), CA)
    assert found
    assert all(each == {17, 18} for each in found)
    assert accepted(expires_at, CA)
    assert accepted(lambda damaged: Signer.load(damaged, SIGNER.key_pem().encode()), CA)
