"""The utility's grants: who manages each microgrid while it is heard, since when, and why (pure)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel

from commonwatt.clique.beats import BEAT_S, Beat, Bits, PeerLine, Signs
from commonwatt.clique.messages import CliqueMessage, Grant, Known, SendBeat, Tell, Who
from commonwatt.model.units import ControllerId, EpochSeconds, MicrogridId
from commonwatt.protocol.commands import Epoch, Raises
from utility.webkit.columns import Shown, Time, Written

QUIET_S = 30.0  # seconds after the start, or a loss of the head-end, in which nothing is granted
# Seconds after the start in which a microgrid without any manager so far is granted only to the first in its order:
# where a whole town starts, its own controller may need minutes to hear its meters.
FIRST_ALONE_S = 300.0


@dataclass(frozen=True)
class KeptGrant:
    """What the utility keeps of a microgrid."""

    adopted: Epoch = (0, 0)  # the highest epoch that its holder confirmed
    seen: Epoch = (0, 0)  # the highest epoch that anybody reported
    top: int = 0  # the highest counter ever granted
    pending: Epoch | None = None  # what was granted and not yet answered


@dataclass(frozen=True)
class KeepGranted:
    """Make it durable before what follows."""

    microgrid: MicrogridId
    granted: KeptGrant


Done = KeepGranted | Tell | SendBeat


class Grants:
    """The microgrids of a clique, at the utility.

    Args:
        orders: Who may manage each microgrid, the first one first.
        ranks: The ranks of all controllers.
        kept: What the database has.
        now: The time, of a clock that never goes back, seconds.
    """

    def __init__(
        self,
        orders: Mapping[MicrogridId, tuple[ControllerId, ...]],
        ranks: Mapping[ControllerId, int],
        kept: Mapping[MicrogridId, KeptGrant],
        now: float,
    ) -> None:
        self.orders, self.ranks = orders, ranks
        self._names = {rank: name for name, rank in ranks.items()}
        self.granted = {name: kept.get(name, KeptGrant()) for name in orders}
        self._raises = {name: Raises() for name in orders}
        self.signs = Signs(sorted({name for order in orders.values() for name in order}), now)
        self.held_back: set[MicrogridId] = set()  # managed by a release that knows no grants: never granted
        self._quiet_until = now + QUIET_S
        self._first_alone_until = now + FIRST_ALONE_S
        self._asked: dict[ControllerId, float] = {}
        self._reported: set[tuple[ControllerId, MicrogridId]] = set()

    def head_end_lost(self, now: float) -> None:
        """Grant nothing for a while: the controllers may have granted by themselves."""
        self._quiet_until = now + QUIET_S
        self._reported.clear()

    def beat(self, sender: ControllerId, beat: Beat, now: float) -> list[Done]:
        """Handle a datagram."""
        is_sign = beat.is_fresh and self.signs.sign(sender, now, beat)
        done = self._read(sender, beat.bits, now) if is_sign else []
        if beat.is_answer:
            return done
        hears = frozenset(n for n, line in self.signs.lines.items() if n != sender and not line.suspect(now))
        return [*done, SendBeat(sender, Beat(is_answer=True, hears=hears))]

    def _read(self, sender: ControllerId, bits: Bits, now: float) -> list[Done]:
        done: list[Done] = []
        for microgrid in (name for name, order in self.orders.items() if sender in order):
            is_able = microgrid in bits.able and bits.commits
            holds = self.holder(microgrid) != sender or microgrid in bits.manages
            self.signs.says(sender, microgrid, now, able=is_able and holds)
            if microgrid in bits.manages and self.holder(microgrid) != sender:
                done.append(Tell(sender, Who(microgrid=microgrid)))
        return done

    def handle(self, sender: ControllerId, message: CliqueMessage, now: float) -> list[Done]:
        """Handle a message of a controller."""
        if sender not in self.signs.lines or message.microgrid not in self.orders:
            return []
        if isinstance(message, Who):
            return [Tell(sender, self._known(message.microgrid))]
        return self._told(sender, message, now) if isinstance(message, Known) else []

    def _known(self, microgrid: MicrogridId) -> Known:
        granted = self.granted[microgrid]
        return Known(microgrid=microgrid, highest=granted.adopted, doubts=granted.pending is not None)

    def _told(self, sender: ControllerId, known: Known, now: float) -> list[Done]:
        if known.manages:
            self.signs.says(sender, known.microgrid, now, able=True)
        granted = self.granted[known.microgrid]
        self._reported.add((sender, known.microgrid))
        # A stolen controller could name any counter; the meters take steps alone.
        base = max(granted.seen[0], granted.top)
        if not self._raises[known.microgrid].allow(sender, base, known.highest[0], now):
            return []
        confirms = known.manages and known.highest[1] == self.ranks[sender] and known.highest > granted.adopted
        adopted = known.highest if confirms else granted.adopted
        pending = None if granted.pending is not None and known.highest >= granted.pending else granted.pending
        new = KeptGrant(adopted, max(granted.seen, known.highest), granted.top, pending)
        if new == granted:
            return []
        self.granted[known.microgrid] = new
        return [KeepGranted(known.microgrid, new)]

    def tick(self, now: float) -> list[Done]:
        """Do what is due."""
        due = [name for name, line in self.signs.lines.items() if line.probe_is_due(now)]
        done: list[Done] = [SendBeat(name, Beat()) for name in due]
        for microgrid in self.orders:
            done += self._look(microgrid, now)
        return done

    def holder(self, microgrid: MicrogridId) -> ControllerId | None:
        """Return who manages a microgrid, as far as is adopted; ``None``: no one."""
        name = self._names.get(self.granted[microgrid].adopted[1])
        return name if name in self.orders[microgrid] else None

    def _look(self, microgrid: MicrogridId, now: float) -> list[Done]:
        order = self.orders[microgrid]
        done: list[Done] = []
        heard = [name for name in order if self.signs.lines[name].alive(now)]
        for name in heard:
            if (name, microgrid) not in self._reported and now - self._asked.get(name, -BEAT_S) >= BEAT_S:
                self._asked[name] = now
                done += [Tell(name, Who(microgrid=each)) for each in self.orders]
        if microgrid in self.held_back or now < self._quiet_until:
            return done
        holder = self.holder(microgrid)
        if holder is not None and not self.signs.lines[holder].fails(microgrid, now):
            return done
        if holder is None and now < self._first_alone_until:
            heard = [name for name in heard if name == order[0]]
        able = [name for name in heard if microgrid not in self.signs.lines[name].unable]
        # A holder that was deposed while the utility was away does not manage, but could.
        able = able or [name for name in heard if self._says_able(name, microgrid)]
        return done + self._grant(microgrid, able[0], now) if able else done

    def _says_able(self, name: ControllerId, microgrid: MicrogridId) -> bool:
        bits = self.signs.lines[name].bits
        return bits is not None and bits.commits and microgrid in bits.able

    def _grant(self, microgrid: MicrogridId, to: ControllerId, now: float) -> list[Done]:
        granted = self.granted[microgrid]
        if granted.pending is None or granted.pending[1] != self.ranks[to]:
            epoch = (max(granted.seen[0], granted.top) + 1, self.ranks[to])
            granted = KeptGrant(granted.adopted, granted.seen, epoch[0], epoch)
            self.granted[microgrid] = granted
            self._asked[microgrid] = now
            return [KeepGranted(microgrid, granted), self._told_grant(microgrid, to)]
        if now - self._asked.get(microgrid, 0.0) < 1:
            return []
        self._asked[microgrid] = now
        return [self._told_grant(microgrid, to)]

    def _told_grant(self, microgrid: MicrogridId, to: ControllerId) -> Tell:
        granted = self.granted[microgrid]
        assert granted.pending is not None
        # A controller that knows a higher epoch than the one replaced refuses, and says so.
        return Tell(to, Grant(microgrid=microgrid, epoch=granted.pending, replaces=granted.seen))


BEGAN, RENEWED, GRANTED, CLAIMED, RETURNED = "began", "renewed", "granted", "claimed", "returned"
HOWS = (BEGAN, RENEWED, GRANTED, CLAIMED, RETURNED)  # all of them
MOVES = (GRANTED, CLAIMED, RETURNED)  # those after which another controller manages


@dataclass(frozen=True, kw_only=True)
class Handover:
    """An epoch that the utility adopted."""

    microgrid: MicrogridId  # the microgrid
    epoch: Epoch  # the epoch
    controller: ControllerId  # who manages under it
    before: ControllerId  # who managed before; empty: no one that the utility knew
    how: str  # one of ``HOWS``
    why: str  # for people
    since: EpochSeconds = 0  # when the utility learned of it; 0: it is being stored


def why_granted(holder: ControllerId | None, line: PeerLine | None, microgrid: MicrogridId, now: float) -> str:
    """Return why the utility grants a microgrid that ``holder`` managed so far, for people."""
    if holder is None or line is None:
        return "granted: no controller managed it"
    if not line.lost(now) and microgrid in line.unable:
        return f"granted: {holder} could not command it for {now - line.unable[microgrid]:.0f} s"
    return f"granted: {holder} gave no sign for {now - line.heard:.1f} s"


def adopted(
    microgrid: MicrogridId,
    epoch: Epoch,
    order: Sequence[ControllerId],
    by: tuple[ControllerId | None, ControllerId],
    *,
    granted_because: str | None,
    is_alive: bool,
) -> Handover:
    """Return the line of an epoch that was adopted.

    Args:
        order: Who may manage the microgrid, the first one first.
        by: Who managed it so far, and who manages it now.
        granted_because: Why the utility granted this very epoch; ``None``: it did not.
        is_alive: Whether the utility hears the controller that managed it so far.
    """
    before, new = by
    if granted_because is not None and before != new:
        how, why = GRANTED, granted_because
    elif before is None:
        how, why = BEGAN, "first start" if new == order[0] else "it managed when the utility began to watch"
    elif before == new:
        how, why = RENEWED, "under a new epoch of its own"
    elif is_alive and order.index(new) < order.index(before):
        how, why = RETURNED, f"given back by {before}"
    else:
        how, why = CLAIMED, f"claimed by itself: {before} was lost to its clique"
    return Handover(microgrid=microgrid, epoch=epoch, controller=new, before=before or "", how=how, why=why)


class Assignment(BaseModel):
    """Which controller manages a microgrid."""

    microgrid: Annotated[str, Shown("Microgrid")]
    order: Annotated[list[str], Shown("Who may manage it")]  # the first one first; alone: it is in no clique
    manager: Annotated[str, Shown("Managed by")]  # empty: no controller that the utility knows
    since: Annotated[Time | None, Shown("Since", Written.MOMENT)]  # when the utility learned of it; ``None``: never
    why: Annotated[str, Shown("Why")]
    epoch: tuple[int, int]  # the epoch, counter and rank; (0, 0): there is none
    unmanaged_s: int  # for how many seconds no controller that can command it was heard; 0: one is


class Held(BaseModel):
    """A line of the history of a microgrid."""

    controller: Annotated[str, Shown("Managed by")]
    since: Annotated[Time, Shown("Since", Written.MOMENT)]
    why: Annotated[str, Shown("Why")]
    epoch: tuple[int, int]  # the epoch, counter and rank


class Explained(BaseModel):
    """An assignment with its history."""

    assignment: Assignment
    history: list[Held]  # the newest first
