"""The proof that a bill is one of its month's: a salted Merkle tree, its head, and the auditor's checks (U2): pure."""
