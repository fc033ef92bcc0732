"""A step of the shell: what the cores of the hosted microgrids want done, each with its own store."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from commonwatt.model.effects import Effect, Publish, Write, perform
from commonwatt.model.units import MicrogridId
from commonwatt.sqlite.damage import SqliteError
from gateway.changes import Change
from gateway.loop.hosted_store import HostedStore


@dataclass
class Step:
    """The effects of a group of events, by microgrid."""

    effects: dict[MicrogridId, list[Effect[Change]]] = field(default_factory=dict)
    failed: dict[MicrogridId, SqliteError] = field(default_factory=dict)  # why a microgrid's store failed in this step

    def __bool__(self) -> bool:
        """Return whether there is anything to do."""
        return bool(self.effects or self.failed)

    def add(self, microgrid: MicrogridId, effects: list[Effect[Change]]) -> None:
        """Add the effects of an event on a microgrid's store."""
        if effects:
            self.effects.setdefault(microgrid, []).extend(effects)

    @property
    def writes(self) -> bool:
        """Whether anything is to be committed."""
        return any(isinstance(effect, Write) for effects in self.effects.values() for effect in effects)

    async def perform(self, stores: Mapping[MicrogridId, HostedStore], publish: Callable[[Publish], object]) -> None:
        """Commit each store's changes in one transaction of that store, then publish.

        Nothing is published of a microgrid whose store failed; the others are not stopped.
        """
        messages: list[Publish] = []
        for microgrid, effects in self.effects.items():
            if microgrid in self.failed or microgrid not in stores:
                continue
            try:
                await perform(effects, stores[microgrid].commit, messages.append)
            except SqliteError as error:
                self.failed[microgrid] = error
        for message in messages:
            publish(message)
