"""Locks that two transactions can't have at once: advisory locks of PostgreSQL, by name; SQLite has one writer."""

from enum import IntEnum

from sqlalchemy import Connection, text


class Lock(IntEnum):
    """What is locked; the value is the number that all processes use, also those of earlier releases."""

    LEDGER = 0x43570010  # new entries of the ledger: their numbers grow in the order of their commits
    PARTITIONS = 0x43570001  # making partitions: the second of two processes finds the first one's
    GAPS = 0x43570002  # changes of several gaps: threads change them in different orders, and could deadlock
    SCHEMA = 0x43570003  # making or changing the tables
    REGISTRY = 0x43570004  # changes of the registry's dates
    SETTLED = 0x43570008  # appending settled versions: their numbers grow in the order of their commits
    STATISTICS = 0x43570009  # writing statistics: the readings of batteries are updated in place
    STEPS = 0x4357000A  # steps of corrections: their numbers grow in the order of their commits
    RELEASES = 0x4357000B  # new releases for research
    CHANGES = 0x4357000D  # new changes of settings
    TARIFFS = 0x43570164  # new versions of tariffs: each has its number
    PEOPLE = 0x43570168  # changes of people: two administrators can't remove each other at once


def take(connection: Connection, lock: Lock) -> None:
    """Wait for a lock, and hold it until the transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": int(lock)})


def try_to_take(connection: Connection, lock: Lock) -> bool:
    """Take a lock until the transaction ends, without waiting; return whether it was free."""
    if connection.dialect.name != "postgresql":
        return True
    return bool(connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": int(lock)}).scalar())
