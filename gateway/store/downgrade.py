"""The way back: a store with which release 0.3 goes on (docs/guides/upgrade.md).

Release 0.3 reads the same tables with another index, but knows fewer kinds of desired states, and no clique: it
commands under rank 0 and its own counter. Meters that a controller of a clique commanded hold a higher epoch, and would
refuse its commands: it gets an epoch above all that are known here.
"""

from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import counted
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.protocol.commands import ALONE, Epoch, Kind
from gateway.clique.kept import kept_epochs
from gateway.control.epochs import MAX_COUNTER, OWN_EPOCH, own_epoch
from gateway.store.changes import Change, ForgetDesired, Setting
from gateway.store.recovery import open_checked
from gateway.store.released import check_not_released
from gateway.store.store import Store

# Counters by which the epoch is above the highest that is known here: others may have gone further unheard. A meter
# takes a step of ``EPOCH_STEP``, so one that lags behind is reached too.
FURTHER = 1_000
_NEW_KINDS = frozenset({Kind.PUT_PERIOD})  # kinds of desired states that 0.3 does not know


@dataclass(frozen=True, kw_only=True)
class Downgraded:
    """The result."""

    epoch: Epoch  # the epoch under which the older gateway commands
    changed: bool  # whether anything had to be changed


def downgrade(path: Path, microgrid: MicrogridId, hosted: Collection[Path], now: EpochSeconds) -> Downgraded:
    """Bring a store into a form with which 0.3 goes on; the caller has locked it. Again, it changes nothing.

    Args:
        hosted: The stores of other microgrids that the gateway may manage; 0.3 has no use for them.

    Raises:
        ConfigError: It is missing, was released, or another microgrid's data waits here for the utility.
        StoreError: It can't be opened.
    """
    if not path.exists():
        raise ConfigError(f"{path}: no store there; the older version makes its own")
    store, _ = open_checked(path, now)
    with closing(store):
        if is_newer := store.version == 4:  # First: with it no package of 0.3 is installed, whatever is refused here.
            store.become(3)
        check_not_released(path, store)
        for other in hosted:
            _refuse_backlog(other)
        changes: list[Change] = []
        kept = kept_epochs(store, microgrid)
        if kept is not None and (highest := max(kept.held, kept.highest)) > own_epoch(store):
            counter = min(highest[0] + FURTHER, MAX_COUNTER)
            changes.append(Setting(OWN_EPOCH, f"{counter},{ALONE}"))
        kinds = {desired.kind for desired in store.desired()}
        changes += [ForgetDesired(kind) for kind in sorted(kinds & _NEW_KINDS)]
        store.commit(changes)
        return Downgraded(epoch=own_epoch(store), changed=is_newer or bool(changes))


def _refuse_backlog(path: Path) -> None:
    with closing(Store.open(path, read_only=True)) as store:
        if waiting := sum(store.backlog()):
            raise ConfigError(
                f"{path}: {counted(waiting, 'part')} of another microgrid wait here for the utility, and version 0.3 "
                "does not send them; start the gateway, and wait until `commonwatt status` shows no backlog"
            )
