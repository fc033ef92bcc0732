"""What releases are made from, what comes of one, and what is kept of it."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.config.utility import UtilitySettings
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.times import iso
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.clock import Clock
from commonwatt.runtime.files import write_private
from utility.database.database import Database
from utility.database.locks import Lock, take
from utility.readings.store import reads
from utility.registry.store.accounts import load_dated_registry
from utility.research import store as store
from utility.research.documents import Facts
from utility.research.homes import HomeMeter, Homes, homes_of, quarters_of
from utility.research.release import Asked, as_json

_SECRET_BYTES = 32


def load_secret(path: Path, *, make: bool) -> bytes:
    """Return the utility's secret of releases.

    Args:
        path: Its file: 64 hexadecimal digits.
        make: Whether to make it if it is missing.

    Raises:
        ConfigError: The file is missing or is none.
    """
    if make and not path.exists():
        write_private(path, secrets.token_hex(_SECRET_BYTES) + "\n")
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: no secret of releases: {error}; restore the file from its copy") from error
    if len(secret) != _SECRET_BYTES:
        raise ConfigError(f"{path}: has {len(secret)} bytes, not {_SECRET_BYTES}; restore the file from its copy")
    return secret


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """Where releases come from."""

    database: Database  # the utility's database
    secret: bytes  # the utility's secret of releases
    settings: UtilitySettings  # the utility's settings
    now: EpochSeconds  # the time
    person: str  # the person who acts

    @property
    def figures(self) -> dict[str, object]:
        """The town's figures."""
        return self.database.read(reads.town)

    @property
    def zone(self) -> ZoneInfo:
        """The town's time zone."""
        return ZoneInfo(str(self.figures.get("timezone", "UTC")))

    def log(self, action: str, subject: str, detail: str = "") -> None:
        """Add a line to the log."""
        self.database.write(store.log_access, self.now, self.person, action, subject, detail)


def source_of(database: Database, settings: UtilitySettings, clock: Clock, person: str, *, make: bool) -> Source:
    """Return the source of releases; ``make``: a missing secret is made."""
    return Source(
        database=database,
        secret=load_secret(settings.research.secret, make=make),
        settings=settings,
        now=int(clock.now()),
        person=person,
    )


def place_of(source: Source, out: Path | None, release: str) -> Path:
    """Return the folder of a release: ``out``, else one in the folder from which researchers download."""
    return out or source.settings.research.releases / release


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What came of a release."""

    facts: Facts  # what its documents tell
    written: bool  # whether its files were written; else a second person has to approve it
    out: Path  # their folder


def homes_in(source: Source, asked: Asked, tell: store.Tell) -> tuple[Homes, list[HomeMeter]]:
    """Return the homes of a period by quarter-hour, and their meters.

    Raises:
        ConfigError: The period is not over, or the registry has no homes that were there during all of it.
    """
    if asked.end > source.now:
        raise ConfigError(f"--to {iso(asked.end)}: is not over; it is {iso(source.now)}")
    first, until = quarters_of(asked.start, asked.end)
    homes, meters = homes_of(source.database.read(load_dated_registry), first, until)
    if not homes:
        raise ConfigError(
            "no house or apartment had one account and its meters for the whole period; see: commonwatt show accounts"
        )
    return store.load_quarters(source.database, homes, meters, first, until, tell), meters


def code_version() -> str:
    """Return the versions that a release's bytes depend on."""
    return f"{version('commonwatt')}, numpy {np.__version__}"


def keep(
    source: Source,
    facts: Facts,
    state: str,
    groups: Mapping[str, str] | None = None,
    earlier: Sequence[Mapping[str, str]] = (),
) -> None:
    """Keep a release in the database, and log it.

    Args:
        source: Where it comes from.
        facts: What its documents tell.
        state: ``waiting`` or ``released``.
        groups: Open tier: the digest of each group.
        earlier: Open tier: the digests of the releases of its time that it takes account of.

    Raises:
        ConfigError: Another release of its time was made meanwhile.
    """
    first, until = quarters_of(facts.asked.start, facts.asked.end)
    with source.database.writes.begin() as connection:
        take(connection, Lock.RELEASES)
        if groups is not None and state == "released":
            known = store.released_over(connection, facts.asked.tier, first, until)
            if [dict(one.groups) for one in known] != list(earlier):
                raise ConfigError("another release of this period was made meanwhile; run the command again")
        before = store.find_release(connection, facts.id)
        kept = store.Kept(
            id=facts.id,
            tier=facts.asked.tier,
            since=first,
            until=until,
            options=facts.asked.options,
            attacks=as_json(facts.attacks),
            groups=groups or {},
            state=state,
            asked=before.asked if before else source.now,
            asked_by=before.asked_by if before and state != "waiting" else source.person,
            decided=before.decided if before else None,
            decided_by=before.decided_by if before else None,
            why=before.why if before else None,
        )
        store.save_release(connection, kept)
        detail = f"{facts.asked.tier} {iso(facts.asked.start)} to {iso(facts.asked.end)} {facts.asked.agreement}"
        store.log_access(connection, source.now, source.person, state, facts.id, detail.rstrip())
