"""The datagram of a beat, 10 bytes: rank (2), answer (1 bit) and number (23 bits), state bits (1), MAC (4).

The state bits are, for each of up to three microgrids of the clique in its order, whether the sender is able to command
it and whether it manages it; then whether its store commits, and whether it leaves. In an answer of the utility they
are the members that it hears. The MAC is the begin of an HMAC-SHA-256 over the rest, under the key of the pair.
A forged beat can delay a takeover, never make one.
"""

import hmac
from collections.abc import Sequence

from commonwatt.cliques.signs import NUMBERS, Beat, Bits
from commonwatt.model.units import ControllerId

LENGTH = 10  # bytes of a datagram
_MAC = 4
_MANAGES, _COMMITS, _LEAVES = 3, 1 << 6, 1 << 7


def pack_beat(beat: Beat, rank: int, members: Sequence[ControllerId], key: bytes) -> bytes:
    """Return the datagram of a beat.

    Args:
        rank: The sender's rank; the utility's is 0.
        members: The clique, in its order.
        key: The key of sender and receiver.
    """
    hears = sum(1 << n for n, name in enumerate(members) if name in beat.hears)
    able = sum(1 << n for n, name in enumerate(members) if name in beat.bits.able)
    manages = sum(1 << n for n, name in enumerate(members) if name in beat.bits.manages)
    flags = (_COMMITS if beat.bits.commits else 0) | (_LEAVES if beat.bits.leaves else 0)
    bits = hears or able | manages << _MANAGES | flags
    number = beat.number | (NUMBERS if beat.is_answer else 0)
    body = rank.to_bytes(2, "big") + number.to_bytes(3, "big") + bytes([bits])
    return body + _mac(body, key)


def rank_of(data: bytes) -> int:
    """Return the rank that a datagram names, by which its key is found."""
    return int.from_bytes(data[:2], "big")


def unpack_beat(data: bytes, members: Sequence[ControllerId], key: bytes, *, of_utility: bool = False) -> Beat | None:
    """Return the beat of a datagram; ``None``: it is not of the one who has the key, or was changed."""
    body, mac = data[:-_MAC], data[-_MAC:]
    if len(data) != LENGTH or not hmac.compare_digest(mac, _mac(body, key)):
        return None
    number, bits = int.from_bytes(body[2:5], "big"), body[5]
    is_answer, number = bool(number & NUMBERS), number % NUMBERS
    if of_utility:
        return Beat(number=number, is_answer=is_answer, hears=_names(bits, members))
    return Beat(
        Bits(
            able=_names(bits, members),
            manages=_names(bits >> _MANAGES, members),
            commits=bool(bits & _COMMITS),
            leaves=bool(bits & _LEAVES),
        ),
        number,
        is_answer=is_answer,
    )


def _names(bits: int, members: Sequence[ControllerId]) -> frozenset[ControllerId]:
    return frozenset(name for n, name in enumerate(members[:_MANAGES]) if bits >> n & 1)


def _mac(body: bytes, key: bytes) -> bytes:
    return hmac.digest(key, body, "sha256")[:_MAC]
