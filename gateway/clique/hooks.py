"""What a clique needs of the shell."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from commonwatt.model.effects import Publish
from commonwatt.model.units import MicrogridId
from commonwatt.protocol.clique_messages import States
from commonwatt.sqlite.damage import SqliteError
from gateway.changes import Change
from gateway.loop.hosted_store import HostedStore


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
