"""What a clique needs and keeps: registry files, durable epochs, and which meters have the revoked list."""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from commonwatt.clique.cliques import beside
from commonwatt.clique.messages import States
from commonwatt.config.settings import GatewaySettings
from commonwatt.model.effects import Publish
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import ControllerId, MeterId, MicrogridId
from commonwatt.protocol.commands import Command, Result
from commonwatt.protocol.topics import COMMANDS, meter_down
from commonwatt.sqlite import SqliteError
from commonwatt.town.registry import RegisteredMeter, SignedList, load_registry
from gateway.clique.effects import EpochPair
from gateway.loop.hosted_store import HostedStore
from gateway.store.changes import Change, KeptSettings, Setting


@dataclass(frozen=True)
class Hooks:
    """What the clique needs of the shell."""

    store: Callable[[], HostedStore]  # the own microgrid's store
    keep: Callable[[list[Change]], Awaitable[SqliteError | None]]  # commits to it; returns why it did not
    publish: Callable[[Publish], object]  # sends a message to a meter
    begin: Callable[[MicrogridId], object]  # lets the core begin to manage a microgrid
    resume: Callable[[], object]  # lets the cores send at once what is due, since an epoch was confirmed
    is_connected: Callable[[], bool]  # whether the connection to the own broker is open
    states: Callable[[MicrogridId], States]  # what the utility has set for a managed microgrid, for those of its clique
    take_states: Callable[[States], object]  # lets the core keep what another one says of that
    commits: Callable[[MicrogridId], bool]  # whether a microgrid's store takes commits
    put_s: Callable[[MicrogridId], int]  # seconds between the puts of a microgrid's meters


MOST_SHARED = 20_000  # most meters that the gateways of one process share


@lru_cache(MOST_SHARED)
def _shared(meter: RegisteredMeter) -> RegisteredMeter:
    """Return the one that an equal meter was before: the gateways of a clique each have the files of all."""
    return meter


class Registries:
    """The files, each read again when it changed."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._paths: dict[MicrogridId, Path] = {}
        self._stamps: dict[MicrogridId, int] = {}

    def load(self, microgrid: MicrogridId) -> dict[MeterId, RegisteredMeter]:
        """Return the meters of a microgrid.

        Raises:
            ConfigError: Its file is missing, wrong, or of another microgrid.
        """
        path = self._settings.registry
        if microgrid != self._settings.microgrid:
            path = beside(path, microgrid)
        self._paths[microgrid], self._stamps[microgrid] = path, _stamp(path)
        registry = load_registry(path)
        if registry.microgrid != microgrid:
            raise ConfigError(f"{path}: is for microgrid {registry.microgrid}, but this gateway needs {microgrid}'s")
        return {meter.id: _shared(meter) for meter in registry.meters}

    def changed(self, microgrid: MicrogridId) -> dict[MeterId, RegisteredMeter] | None:
        """Return the meters of a microgrid if its file changed since it was loaded; ``None``: it did not.

        Raises:
            ConfigError: The file is missing or wrong; said once.
        """
        return None if _stamp(self._paths[microgrid]) == self._stamps[microgrid] else self.load(microgrid)


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return 0


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

    async def keep(self, hooks: Hooks, microgrid: MicrogridId, kept: EpochPair) -> SqliteError | None:
        """Make a microgrid's epochs durable; return why that failed."""
        if error := await hooks.keep([Setting(_key(microgrid), kept.text())]):
            return error
        self.of[microgrid] = kept
        return None


def _at_start(store: KeptSettings, microgrid: MicrogridId, rank: int, *, is_own: bool) -> EpochPair:
    """Return what the store has; without anything, a microgrid's own controller has its first epoch."""
    if (kept := kept_epochs(store, microgrid)) is not None:
        return kept
    return EpochPair((1, rank), (1, rank)) if is_own else EpochPair((0, rank), (0, 0))


def kept_epochs(store: KeptSettings, microgrid: MicrogridId) -> EpochPair | None:
    """Return the epochs of a microgrid that a store has; ``None``: it has none."""
    text = store.setting(_key(microgrid))
    return None if text is None else EpochPair.read(text)


def _key(microgrid: MicrogridId) -> str:
    return f"clique:{microgrid}"


AGAIN_S = 300.0  # seconds between two rounds to the meters that have not answered; a broker drops what nobody hears
SOON_S = 30.0  # seconds after which a meter that is heard, and has not answered, is sent it again
FORGET_S = 86_400.0  # seconds after which all meters get it again: one may have been exchanged
AT_ONCE = 5  # meters of one step of 0.1 s, since each message has up to 10 kB


class RevokedOffer:
    """The list, and which meters have answered it lately.

    Args:
        signed: The list; ``None``: there is none, and nothing is sent.
    """

    def __init__(self, own: ControllerId, signed: SignedList | None) -> None:
        self.answered: dict[MeterId, Result] = {}  # the answer of each meter that answered
        self._own, self._signed = own, signed
        self._round: list[tuple[MicrogridId, MeterId]] = []
        self._heard: dict[MeterId, float] = {}
        self._next = self._forget = 0.0

    def view(self) -> dict[str, object]:
        """Return what /status shows of it, as JSON; empty without a list."""
        if self._signed is None:
            return {}
        return {"revoked": {"list": self._signed.text, "answers": dict(Counter(self.answered.values()))}}

    def heard(self, microgrid: MicrogridId, meter: MeterId, now: float) -> None:
        """Send it next to a meter that is connected, unless it has answered: it may leave again."""
        if self._signed is not None and meter not in self.answered and now >= self._heard.get(meter, now):
            self._heard[meter] = now + SOON_S
            self._round.insert(0, (microgrid, meter))

    def due(self, meters: Mapping[MicrogridId, Collection[MeterId]], now: float) -> list[Publish]:
        """Return the commands that are due.

        Args:
            meters: The registered meters of each microgrid that the gateway hosts.
            now: Seconds of a clock that never goes back.
        """
        if self._signed is None:
            return []
        if now >= self._forget:
            self._forget = now + FORGET_S
            self.answered.clear()
        if not self._round and now >= self._next:
            self._next = now + AGAIN_S
            self._round = [(name, meter) for name, each in meters.items() for meter in each]
        several, self._round = self._round[:AT_ONCE], self._round[AT_ONCE:]
        return [self._command(*one, self._signed) for one in several if one[1] not in self.answered]

    def _command(self, microgrid: MicrogridId, meter: MeterId, signed: SignedList) -> Publish:
        command = Command(
            id=f"{self._own}-revoked-{signed.read().number}",
            cmd="revoked",
            issuer=self._own,
            epoch=(0, 0),
            revoked=signed.text,
            signature=signed.signature,
        )
        return Publish(meter_down(microgrid, meter, COMMANDS), command.pack())
