"""The durable epochs of a controller, in the store of its own microgrid."""

from collections.abc import Iterable

from commonwatt.model.units import MicrogridId
from commonwatt.sqlite.damage import SqliteError
from gateway.changes import Setting
from gateway.clique.hooks import Hooks
from gateway.stored import KeptSettings
from gateway.takeover.effects import Kept


class KeptEpochs:
    """The epochs of each microgrid that a controller may manage, as they are durable.

    Args:
        store: The store of its own microgrid.
        rank: Its rank in the epochs.
        microgrids: Those that it may manage.
    """

    def __init__(self, store: KeptSettings, own: MicrogridId, rank: int, microgrids: Iterable[MicrogridId]) -> None:
        self.of = {name: _at_start(store, name, rank, is_own=name == own) for name in microgrids}  # by microgrid
        self._kept_in: object = None  # the store that has them; it changes when it was opened again

    @property
    def are_kept(self) -> bool:
        """Whether a store had them all since the start."""
        return self._kept_in is not None

    async def keep_all(self, hooks: Hooks) -> SqliteError | None:
        """Keep all in a store that does not have them yet; return why that failed."""
        store = hooks.store()
        if store.opening or (opened := store.store) is self._kept_in:
            return None
        if error := await hooks.keep([Setting(_key(name), each.text()) for name, each in self.of.items()]):
            return error
        self._kept_in = opened
        return None

    async def keep(self, hooks: Hooks, microgrid: MicrogridId, kept: Kept) -> SqliteError | None:
        """Make a microgrid's epochs durable; return why that failed."""
        if error := await hooks.keep([Setting(_key(microgrid), kept.text())]):
            return error
        self.of[microgrid] = kept
        return None


def _at_start(store: KeptSettings, microgrid: MicrogridId, rank: int, *, is_own: bool) -> Kept:
    """Return what the store has; without anything, a microgrid's own controller has its first epoch."""
    if (kept := kept_epochs(store, microgrid)) is not None:
        return kept
    return Kept((1, rank), (1, rank)) if is_own else Kept((0, rank), (0, 0))


def kept_epochs(store: KeptSettings, microgrid: MicrogridId) -> Kept | None:
    """Return the epochs of a microgrid that a store has; ``None``: it has none."""
    text = store.setting(_key(microgrid))
    return None if text is None else Kept.read(text)


def _key(microgrid: MicrogridId) -> str:
    return f"clique:{microgrid}"
