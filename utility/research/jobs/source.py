"""What releases are made from, what comes of one, and what is kept of it."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.model.calendar import iso
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.files import write_private
from utility.access.people import Actor
from utility.access.store.audit_log import record
from utility.database.database import Database
from utility.database.engines import Lock, take
from utility.readings.store import reads
from utility.registry.store.accounts import load_dated_registry
from utility.research import store as store
from utility.research.documents import ReleaseFacts
from utility.research.homes import HomeMeter, Homes, homes_of, quarters_of
from utility.research.release import AskedRelease, as_json
from utility.settings import UtilitySettings

_SECRET_BYTES = 32


def load_secret(path: Path) -> bytes:
    """Return the utility's secret of releases, from its file of 64 hexadecimal digits; a missing one is made."""
    if not path.exists():
        write_private(path, secrets.token_hex(_SECRET_BYTES) + "\n")
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: no secret of releases: {error}; restore the file from its copy") from error
    if len(secret) != _SECRET_BYTES:
        raise ConfigError(f"{path}: has {len(secret)} bytes, not {_SECRET_BYTES}; restore the file from its copy")
    return secret


@dataclass(frozen=True, kw_only=True, eq=False)
class ReleaseSource:
    """Where releases come from."""

    database: Database  # the utility's database
    secret: bytes  # the utility's secret of releases
    settings: UtilitySettings  # the utility's settings
    now: EpochSeconds  # the time
    actor: Actor  # the person who acts

    @property
    def figures(self) -> dict[str, object]:
        """The town's figures."""
        return self.database.read(reads.town)

    @property
    def zone(self) -> ZoneInfo:
        """The town's time zone."""
        return ZoneInfo(str(self.figures.get("timezone", "UTC")))


def source_of(database: Database, settings: UtilitySettings, now: EpochSeconds, actor: Actor) -> ReleaseSource:
    """Return the source of releases; a missing secret is made."""
    secret = load_secret(settings.research.secret)
    return ReleaseSource(database=database, secret=secret, settings=settings, now=now, actor=actor)


def place_of(source: ReleaseSource, out: Path | None, release: str) -> Path:
    """Return the folder of a release: ``out``, else one in the folder from which researchers download."""
    return out or source.settings.research.releases / release


@dataclass(frozen=True, kw_only=True, eq=False)
class ReleaseResult:
    """What came of a release."""

    facts: ReleaseFacts  # what its documents tell
    written: bool  # whether its files were written; else a second person has to approve it
    out: Path  # their folder


def homes_in(source: ReleaseSource, asked: AskedRelease, tell: store.Tell) -> tuple[Homes, list[HomeMeter]]:
    """Return the homes of a period by quarter-hour, and their meters.

    Raises:
        ConfigError: The period is not over, or the registry has no homes that were there during all of it.
    """
    if asked.end > source.now:
        raise ConfigError(f"to {iso(asked.end)}: is not over; it is {iso(source.now)}")
    first, until = quarters_of(asked.start, asked.end)
    homes, meters = homes_of(source.database.read(load_dated_registry), first, until)
    if not homes:
        raise ConfigError(
            "no house or apartment had one account and its meters for the whole period", "see: commonwatt show accounts"
        )
    return store.load_quarters(source.database, homes, meters, first, until, tell), meters


def code_version() -> str:
    """Return the versions that a release's bytes depend on."""
    return f"{version('commonwatt')}, numpy {np.__version__}"


def keep(
    source: ReleaseSource,
    facts: ReleaseFacts,
    state: str,
    groups: Mapping[str, str] | None = None,
    earlier: Sequence[Mapping[str, str]] = (),
) -> None:
    """Keep a release in the database, with an entry of the audit log.

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
                raise ConfigError("another release of this period was made meanwhile; make it again")
        before = store.find_release(connection, facts.id)
        kept = store.KeptRelease(
            id=facts.id,
            tier=facts.asked.tier,
            since=first,
            until=until,
            options=facts.asked.options,
            attacks=as_json(facts.attacks),
            groups=groups or {},
            state=state,
            asked=before.asked if before else source.now,
            asked_by=before.asked_by if before and state != "waiting" else source.actor.name,
            decided=before.decided if before else None,
            decided_by=before.decided_by if before else None,
            why=before.why if before else None,
        )
        store.save_release(connection, kept)
        detail = f"{facts.asked.tier} {iso(facts.asked.start)} to {iso(facts.asked.end)} {facts.asked.agreement}"
        words = {"state": state, "asked": detail.rstrip()}
        record(connection, source.actor, source.now, "release.make", f"release {facts.id}", None, words)
