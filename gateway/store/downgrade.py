"""The way back: a store in a form that version 0.2 goes on with (docs/guides/upgrade.md).

Version 0.2 reads the tables of schema 1, knows fewer kinds of desired states and outcomes, and knows no clique: it
commands under rank 0 and its own counter. Meters that a controller of a clique commanded hold a higher epoch, and would
refuse its commands. So it gets an epoch above all that are known here.
"""

import json
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.model.words import counted
from commonwatt.protocol.commands import ALONE, Epoch, Kind
from commonwatt.sqlite.damage import SqliteError, is_full
from gateway.changes import Change, ForgetDesired, Setting
from gateway.clique.kept import kept_epochs
from gateway.control.epochs import MAX_COUNTER, OWN_EPOCH, own_epoch
from gateway.store.handover import check_not_released
from gateway.store.recovery import finish_rewrite, open_checked, rewrite
from gateway.store.store import Store

SCHEMA = 1  # the version of stores that 0.2 reads
NEWER = "newer"  # state, in its name, of a store that one of an earlier form replaced
# Counters by which the epoch is above the highest that is known here: others may have gone further unheard. A meter
# takes a step of ``EPOCH_STEP``, so one that lags behind is reached too.
FURTHER = 1_000
_KNOWN_KINDS = frozenset({Kind.SHARING, Kind.REDUCING, Kind.ISOLATED, Kind.AGGREGATION})
_KNOWN_RESULTS = frozenset({"done", "repeated", "superseded", "fenced", "expired", "refused", "partial"})


@dataclass(frozen=True, kw_only=True)
class Downgraded:
    """The result."""

    epoch: Epoch  # the epoch under which the older gateway commands
    kept: Path | None  # the store of the newer form; ``None``: only some rows had to be changed
    changed: bool  # whether anything had to be changed


def downgrade(path: Path, microgrid: MicrogridId, hosted: Collection[Path], now: EpochSeconds) -> Downgraded:
    """Bring a store into the form of version 0.2; the caller has locked it. Again, it changes nothing.

    Args:
        hosted: The stores of other microgrids that the gateway may manage; 0.2 has no use for them.

    Raises:
        ConfigError: It is missing, was handed over, or another microgrid's data waits here for the utility.
        StoreError: It can't be opened, or the disk has no space for another copy; nothing was changed.
    """
    if not path.exists():
        raise ConfigError(f"{path}: no store there; the older version makes its own")
    for other in hosted:
        _refuse_backlog(other)
    old, _ = open_checked(path, now)
    with closing(old):
        check_not_released(path, old)
        changes = _changes(old, microgrid)
        if old.version == SCHEMA:
            old.commit(changes)
            return Downgraded(epoch=own_epoch(old), kept=None, changed=bool(changes))
        epoch = _rewrite(path, now, old, changes)
    return Downgraded(epoch=epoch, kept=finish_rewrite(path, now, NEWER), changed=True)


def _rewrite(path: Path, now: EpochSeconds, old: Store, changes: list[Change]) -> Epoch:
    try:
        with closing(rewrite(path, now, old, SCHEMA)) as new:
            new.commit(changes)
            new.complete()
            return own_epoch(new)
    except (SqliteError, StoreError, OSError) as error:
        if not is_full(error):
            raise
        raise StoreError(
            f"{path}: the disk has no space for another copy of {path.stat().st_size:,} bytes; nothing was changed"
        ) from error


def _changes(store: Store, microgrid: MicrogridId) -> list[Change]:
    """Return what 0.2 needs changed in a store, beside its tables."""
    changes: list[Change] = []
    kept = kept_epochs(store, microgrid)
    if kept is not None and (highest := max(kept.held, kept.highest)) > own_epoch(store):
        counter = min(highest[0] + FURTHER, MAX_COUNTER)
        changes.append(Setting(OWN_EPOCH, f"{counter},{ALONE}"))
    kinds = {desired.kind for desired in store.desired()}
    changes += [ForgetDesired(kind) for kind in sorted(kinds - _KNOWN_KINDS)]
    outcomes = json.loads(store.setting("outcomes") or "{}")
    known = {name: outcome for name, outcome in outcomes.items() if outcome["result"] in _KNOWN_RESULTS}
    return [*changes, *([] if known == outcomes else [Setting("outcomes", json.dumps(known))])]


def _refuse_backlog(path: Path) -> None:
    with closing(Store.open(path, read_only=True)) as store:
        if waiting := sum(store.backlog()):
            raise ConfigError(
                f"{path}: {counted(waiting, 'part')} of another microgrid wait here for the utility, and version 0.2 "
                "does not send them; start the gateway, and wait until `commonwatt status` shows no backlog"
            )
