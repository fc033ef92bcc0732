"""The Merkle tree over the leaves of a month, as in RFC 6962, with a salt in each leaf.

- leaf: SHA-256(0x00, salt, content)
- node: SHA-256(0x01, left, right); a node without a right neighbour goes up unchanged
- an empty tree has no root

The first byte tells leaves from nodes, so that no node can be shown as a leaf. A salt is 32 secret bytes: without it,
nobody can try out amounts until a hash fits.
"""

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence

from commonwatt.model.units import AccountNumber

SALT_BYTES = 32  # length of a salt, and of the secret of a run
HASH_BYTES = 32  # length of a hash

_LEAF, _NODE = b"\x00", b"\x01"


def salts(secret: bytes, accounts: Iterable[AccountNumber]) -> dict[AccountNumber, bytes]:
    """Return the salt of each account, from the secret of the run (32 random bytes).

    Each is HMAC-SHA-256 of the account's number: one account's salt tells nothing of another's. So a run keeps 32
    bytes, and makes the same root again.
    """
    if len(secret) != SALT_BYTES:
        raise ValueError(f"the secret of a run has {SALT_BYTES} bytes, this one has {len(secret)}")
    return {account: hmac.digest(secret, b"%d" % account, "sha256") for account in accounts}


def leaf_hash(salt: bytes, content: bytes) -> bytes:
    """Return the hash of a leaf."""
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes, this one has {len(salt)}")
    return hashlib.sha256(_LEAF + salt + content).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over the hashes of leaves, at least one."""
    return _levels(leaves)[-1][0]


def path_of(leaves: Sequence[bytes], index: int) -> Iterator[bytes]:
    """Yield what proves one leaf: the neighbours' hashes from the leaf up to the root."""
    for level in _levels(leaves)[:-1]:
        neighbour = index ^ 1
        if neighbour < len(level):
            yield level[neighbour]
        index //= 2


def _levels(leaves: Sequence[bytes]) -> list[Sequence[bytes]]:
    if not leaves:
        raise ValueError("a tree needs at least one leaf")
    levels = [leaves]
    while len(below := levels[-1]) > 1:
        pairs = [_node(below[n], below[n + 1]) for n in range(0, len(below) - 1, 2)]
        levels.append(pairs + list(below[len(below) - len(below) % 2 :]))
    return levels


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()
