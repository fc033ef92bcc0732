"""The epochs under which a gateway commands its meters, and the meters that another manager commands (docs/control.md).

A gateway of a clique has the epochs that were granted to it (``GrantedEpochs``, docs/controllers.md). One without a
clique is the only one of its rank. A meter that reports a higher epoch of that rank was commanded by this gateway
before the store was lost: that meter, and no other, is commanded one counter above it from then on. A meter that
reports a higher epoch of another rank is commanded by another manager and gets no commands. So a faulty meter does not
affect others.
"""

from collections.abc import Iterable

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.effects import Effect, Write
from commonwatt.model.units import ControllerId, MeterId, MicrogridId
from commonwatt.protocol.commands import Epoch
from gateway.clique.member import Member
from gateway.store.changes import Change, KeptSettings, Setting

FIRST_EPOCH: Epoch = (1, 0)  # the epoch of a gateway with a new store

OWN_EPOCH = "epoch"  # the setting that keeps it: counter and rank with a comma between
MAX_COUNTER = 2**32 - 1


class Epochs:
    """The epoch for each meter, of a gateway without a clique."""

    commands = True  # whether it commands at all
    deposed_by: Epoch | None = None  # who does instead
    is_deposed = False  # whether it managed before
    brokers: tuple[ControllerId, ...] | None = None  # the order of brokers that meters are to use; ``None``: their own

    def __init__(self, store: KeptSettings, meters: Iterable[MeterId]) -> None:
        self.own = own_epoch(store)  # the epoch for meters that never reported a higher one
        # The meters that fence this gateway off for good, with the epoch each reported: of another rank, or with the
        # highest counter there is. They are not commanded.
        self.fenced: dict[MeterId, Epoch] = {}
        kept = {meter: _read(store.setting(_key(meter))) for meter in meters}
        self._raised = {meter: epoch for meter, epoch in kept.items() if epoch is not None}

    def of(self, meter: MeterId) -> Epoch:
        """Return the epoch under which a meter is commanded."""
        return max(self.own, self._raised.get(meter, self.own))

    def is_fenced(self, meter: MeterId) -> bool:
        """Return whether a meter is not commanded."""
        return meter in self.fenced

    def reported(self, meter: MeterId, highest: Epoch) -> list[Effect[Change]]:
        """Handle the highest epoch that a meter reports; go above it if it has this gateway's rank."""
        if highest <= self.of(meter):
            self.fenced.pop(meter, None)
            return []
        if highest[1] != self.own[1] or highest[0] >= MAX_COUNTER:
            self.fenced[meter] = highest
            return []
        self.fenced.pop(meter, None)
        return self.above(meter, highest)

    def above(self, meter: MeterId, epoch: Epoch) -> list[Effect[Change]]:
        """Command a meter one counter above an epoch from now on; the change is durable before the next command."""
        raised = self._raised[meter] = (epoch[0] + 1, self.own[1])
        return [Write(Setting(_key(meter), f"{raised[0]},{raised[1]}"))]


class NoEpochs:
    """The epochs of a gateway that only takes the records of a microgrid: it commands none of its meters."""

    commands = is_deposed = False
    deposed_by: Epoch | None = None
    brokers: tuple[ControllerId, ...] | None = None
    own: Epoch = (0, 0)

    def __init__(self) -> None:
        self.fenced: dict[MeterId, Epoch] = {}

    def of(self, meter: MeterId) -> Epoch:
        """Return the epoch under which a meter would be commanded."""
        del meter
        return self.own

    def is_fenced(self, meter: MeterId) -> bool:
        """Return whether a meter is not commanded."""
        del meter
        return True

    def reported(self, meter: MeterId, highest: Epoch) -> list[Effect[Change]]:
        """Pass over the highest epoch that a meter reports: it concerns those that manage the microgrid."""
        del meter, highest
        return []

    above = reported


class GrantedEpochs:
    """The epoch for each meter, of a gateway whose clique decides whether it manages the microgrid.

    Args:
        member: Its part in the clique; it hears what meters report before the core does.
    """

    def __init__(self, member: Member) -> None:
        self._member = member
        self.fenced: dict[MeterId, Epoch] = {}  # the meters that report a higher epoch, which no others confirm

    @property
    def own(self) -> Epoch:
        """The last epoch that was granted."""
        return self._member.kept.held

    @property
    def commands(self) -> bool:
        """Whether it manages the microgrid; otherwise no meter is commanded."""
        return self._member.commands and not self._member.unkept

    @property
    def deposed_by(self) -> Epoch | None:
        """The higher epoch of another controller; ``None``: it knows none."""
        kept = self._member.kept
        return kept.highest if kept.highest > kept.held and kept.highest[1] != kept.held[1] else None

    @property
    def is_deposed(self) -> bool:
        """Whether it managed before, and another one does now."""
        return self.deposed_by is not None and self.own[0] > 0

    @property
    def brokers(self) -> tuple[ControllerId, ...]:
        """The order of brokers for meters: this one, then those that follow; at home empty, as installed."""
        post = self._member.post
        at = post.order.index(post.own)
        return () if post.own == post.microgrid else (*post.order[at:], *post.order[:at])

    def of(self, meter: MeterId) -> Epoch:
        """Return the epoch under which a meter is commanded."""
        return self._member.epoch_for(meter)

    def is_fenced(self, meter: MeterId) -> bool:
        """Return whether a meter is not commanded."""
        return not self.commands or meter in self.fenced

    def reported(self, meter: MeterId, highest: Epoch) -> list[Effect[Change]]:
        """Handle the highest epoch that a meter reports: one meter's word ends the commands to it alone."""
        if highest > self.own:
            self.fenced[meter] = highest
        else:
            self.fenced.pop(meter, None)
        return []

    def above(self, meter: MeterId, epoch: Epoch) -> list[Effect[Change]]:
        """Stop to command a meter whose sequence numbers are used up, until the next grant."""
        self.fenced[meter] = epoch
        return []


def epochs_of(
    settings: GatewaySettings,
    microgrid: MicrogridId,
    store: KeptSettings,
    meters: Iterable[MeterId],
    member: Member | None,
) -> Epochs | GrantedEpochs | NoEpochs:
    """Return the epochs of a hosted microgrid.

    Args:
        member: Its part in a clique; ``None``: it has none, and manages its own microgrid alone.
    """
    if member is not None:
        return GrantedEpochs(member)
    return Epochs(store, meters) if microgrid == settings.microgrid else NoEpochs()


def own_epoch(store: KeptSettings) -> Epoch:
    """Return the epoch of a gateway without a clique; an earlier release reads it likewise."""
    return _read(store.setting(OWN_EPOCH)) or FIRST_EPOCH


def _key(meter: MeterId) -> str:
    return f"epoch:{meter}"


def _read(text: str | None) -> Epoch | None:
    if text is None:
        return None
    counter, rank = map(int, text.split(","))
    return counter, rank
