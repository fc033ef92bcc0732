"""The groups of controllers that take over for each other, as the utility watches and grants (docs/controllers.md).

Time is of a clock that never goes back, in real seconds: a demonstration's fast clock does not shorten a deadline.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from commonwatt.clique.beats import FALSE_FOR_S, Beat
from commonwatt.clique.messages import CliqueMessage, Known, SendBeat, Tell, Who
from commonwatt.model.units import ControllerId, MicrogridId
from commonwatt.protocol.commands import Epoch
from utility.cliques.grants import MOVES, Done, Grants, Handover, KeepGranted, KeptGrant, adopted, why_granted

FIRST_S = 75.0  # seconds after the start within which the first heartbeat of every controller comes
WAKE_S = 0.2  # seconds between two looks at whether this process was stopped
HEARTBEATS_S = 180.0  # seconds for which a heartbeat is a sign of a controller that sends no beats
STOPPED_S = 60.0  # seconds for which a group does nothing after its rules failed


@dataclass(frozen=True)
class Out:
    """Something to do, of one group."""

    group: int  # the group's place
    done: Tell | SendBeat  # what to send


@dataclass
class StepOutcome:
    """What a step leads to: the rows are made durable before the messages are sent; beats wait for nothing."""

    beats: list[Out] = field(default_factory=list)
    granted: dict[MicrogridId, KeptGrant] = field(default_factory=dict)
    handovers: list[Handover] = field(default_factory=list)
    messages: list[Out] = field(default_factory=list)
    failed: Exception | None = None  # why the rules of a group failed


class Cliques:
    """All groups; ``grants`` has those of each group, in the order of the file."""

    def __init__(self, grants: Sequence[Grants], now: float) -> None:
        self.handovers: Counter[str] = Counter()  # since the start, by how
        self.moves: Counter[MicrogridId] = Counter()  # how often each microgrid got another manager since the start
        self.false_takeovers = 0  # since the start: the controller that was taken for lost lived
        self._failed: dict[int, tuple[float, str]] = {}  # by group, when its rules failed last, and how
        self._grants = grants
        self._group_of = {microgrid: at for at, one in enumerate(grants) for microgrid in one.orders}
        self._before = {m: g for one in grants for m, g in one.granted.items()}
        self._because: dict[MicrogridId, tuple[Epoch, str]] = {}
        self._taken: dict[MicrogridId, tuple[ControllerId, float]] = {}
        self._heartbeats: dict[ControllerId, tuple[float, Mapping[MicrogridId, Epoch] | None]] = {}
        self._unmanaged: dict[MicrogridId, float] = {}
        self._began = self._woke = now

    @property
    def orders(self) -> dict[MicrogridId, tuple[ControllerId, ...]]:
        """Who may manage each microgrid, the first one first."""
        return {microgrid: order for one in self._grants for microgrid, order in one.orders.items()}

    def unmanaged(self, now: float) -> dict[MicrogridId, float]:
        """Return for how many seconds no controller that can command a microgrid was heard, of those without one."""
        return {name: now - since for name, since in self._unmanaged.items()}

    def managers(self) -> dict[MicrogridId, tuple[ControllerId, Epoch]]:
        """Return the manager and the epoch of each microgrid that has one."""
        found = ((microgrid, self._holder(microgrid)) for microgrid in self._before)
        return {name: (holder, self._before[name].adopted) for name, holder in found if holder is not None}

    def managed_by_others(self, now: float) -> dict[MicrogridId, tuple[ControllerId, float]]:
        """Return the managers of others' microgrids, and for how many seconds its own controller is heard."""
        found = {}
        for name, (manager, _) in self.managers().items():
            own = self._grants[self._group_of[name]].signs.lines.get(name)
            if manager != name:
                found[name] = manager, now - own.since if own and own.since is not None and own.alive(now) else 0.0
        return found

    @property
    def firsts(self) -> list[ControllerId]:
        """The first controller of each group, which names it."""
        return [min(grants.signs.lines) for grants in self._grants]

    def stopped(self, now: float) -> dict[ControllerId, str]:
        """Return the groups that do nothing since their rules failed, by their first controllers, with the errors."""
        firsts = self.firsts
        return {firsts[at]: error for at, (failed, error) in self._failed.items() if now - failed < STOPPED_S}

    def beat(self, group: int, sender: ControllerId, beat: Beat, now: float) -> StepOutcome:
        """Handle a datagram of a controller."""
        self._wake(now)
        self._maybe_back(group, now)
        return self._step(group, now, lambda: self._grants[group].beat(sender, beat, now))

    def message(self, group: int, sender: ControllerId, message: CliqueMessage, now: float) -> StepOutcome:
        """Handle a message of a controller."""
        self._wake(now)
        self._maybe_back(group, now)
        return self._step(group, now, lambda: self._grants[group].handle(sender, message, now))

    def heartbeat(
        self, sender: ControllerId, manages: Mapping[MicrogridId, Epoch] | None, now: float
    ) -> list[StepOutcome]:
        """Handle a heartbeat, which counts for a controller that sends no beats: an older release, or UDP is blocked.

        ``manages``: the microgrids that it manages with their epochs; ``None``: an older release, which does not say.
        """
        self._heartbeats[sender] = now, manages
        outcomes = []
        for at, grants in enumerate(self._grants):
            line = grants.signs.lines.get(sender)
            if line is None or line.session is not None or manages is None:
                continue
            for name, order in grants.orders.items():
                if sender in order:
                    known = Known(microgrid=name, highest=manages.get(name, (0, 0)), manages=name in manages)
                    outcomes.append(self._step(at, now, partial(grants.handle, sender, known, now)))
        return outcomes

    def adopt(self, sender: ControllerId, microgrid: MicrogridId, epoch: Epoch, now: float) -> StepOutcome:
        """Note what a deposed controller says, the epoch that it knows to be in force, and ask who holds it."""
        at = self._group_of.get(microgrid)
        if at is None:
            return StepOutcome()
        grants, known = self._grants[at], Known(microgrid=microgrid, highest=epoch)
        ask = [Tell(name, Who(microgrid=microgrid)) for name, rank in grants.ranks.items() if rank == epoch[1]]
        return self._step(at, now, lambda: [*grants.handle(sender, known, now), *ask])

    def away(self, now: float) -> None:
        """Grant nothing for a while: the utility could do nothing, and the controllers may have decided alone."""
        for grants in self._grants:
            grants.head_end_lost(now)

    def tick(self, now: float) -> list[StepOutcome]:
        """Do what is due."""
        self._wake(now)
        self._signs_of_heartbeats(now)
        outcomes = [self._step(at, now, partial(grants.tick, now)) for at, grants in enumerate(self._grants)]
        for microgrid in self._before:
            if self._is_unmanaged(microgrid, now):
                self._unmanaged.setdefault(microgrid, now)
            else:
                self._unmanaged.pop(microgrid, None)
        self._count_false()
        return outcomes

    def _wake(self, now: float) -> None:
        """Grant nothing for a while after this process itself was stopped."""
        if now - self._woke < WAKE_S:
            return  # Each of hundreds of beats a second would ask all groups.
        self._woke = now
        for grants in self._grants:
            if grants.signs.wake(now):
                grants.head_end_lost(now)

    def _maybe_back(self, group: int, now: float) -> None:
        """After none of several was heard the utility itself may have been cut off."""
        lines = self._grants[group].signs.lines.values()
        if all(line.lost(now) for line in lines):
            self._grants[group].head_end_lost(now)

    def _signs_of_heartbeats(self, now: float) -> None:
        for at, grants in enumerate(self._grants):
            grants.held_back = {n for n in grants.orders if self._is_old(at, n, now) or self._may_come(at, n, now)}
            for name, line in grants.signs.lines.items():
                if line.session is None and self._manages(name, now) is not None:
                    grants.signs.sign(name, now)

    def _manages(self, name: ControllerId, now: float) -> Mapping[MicrogridId, Epoch] | None:
        at, manages = self._heartbeats.get(name, (now - 2 * HEARTBEATS_S, None))
        return manages if now - at <= HEARTBEATS_S else None

    def _is_old(self, group: int, microgrid: MicrogridId, now: float) -> bool:
        """Return whether a microgrid's own controller is alive and of a release that knows nothing of takeover."""
        own = self._grants[group].orders[microgrid][0]
        at, manages = self._heartbeats.get(own, (now - 2 * HEARTBEATS_S, None))
        is_silent = self._grants[group].signs.lines[own].session is None
        return is_silent and manages is None and now - at <= HEARTBEATS_S

    def _may_come(self, group: int, microgrid: MicrogridId, now: float) -> bool:
        """Return whether its manager gave no sign since the start, but its first heartbeat may be on its way."""
        manager = self._holder(microgrid) or self._grants[group].orders[microgrid][0]
        return self._grants[group].signs.lines[manager].since is None and now - self._began <= FIRST_S

    def _holder(self, microgrid: MicrogridId) -> ControllerId | None:
        return self._grants[self._group_of[microgrid]].holder(microgrid)

    def _is_unmanaged(self, microgrid: MicrogridId, now: float) -> bool:
        at, holder = self._group_of[microgrid], self._holder(microgrid)
        if self._is_old(at, microgrid, now):
            return False
        return holder is None or self._grants[at].signs.lines[holder].fails(microgrid, now)

    def _step(self, group: int, now: float, rules: Callable[[], Iterable[Done]]) -> StepOutcome:
        """Let the rules of a group act; after an error that group alone does nothing, and then goes on anew."""
        if group in self._failed and now - self._failed[group][0] < STOPPED_S:
            return StepOutcome()
        grants = self._grants[group]
        durable = {name: self._before[name] for name in grants.orders}
        try:
            return self._outcome(group, rules(), now)
        except Exception as error:
            self._failed[group] = now, f"{type(error).__name__}: {error}"
            # What the rules had in mind was handed to nobody.
            self._before |= durable
            grants.granted = dict(durable)
            grants.head_end_lost(now + STOPPED_S)
            return StepOutcome(failed=error)

    def _outcome(self, group: int, done: Iterable[Done], now: float) -> StepOutcome:
        outcome = StepOutcome()
        for one in done:
            if isinstance(one, KeepGranted):
                outcome.granted[one.microgrid] = one.granted
                outcome.handovers += self._changed(group, one.microgrid, one.granted, now)
            elif isinstance(one, SendBeat):
                outcome.beats.append(Out(group, one))
            else:
                outcome.messages.append(Out(group, one))
        return outcome

    def _changed(self, group: int, microgrid: MicrogridId, new: KeptGrant, now: float) -> list[Handover]:
        """Return the handover, if an epoch was adopted; note why one is granted."""
        before, grants = self._before[microgrid], self._grants[group]
        self._before[microgrid] = new
        names = {rank: name for name, rank in grants.ranks.items()}
        holder = names.get(before.adopted[1]) if before.adopted[0] else None
        line = None if holder is None else grants.signs.lines[holder]
        if new.pending is not None and new.pending != before.pending:
            self._because[microgrid] = new.pending, why_granted(holder, line, microgrid, now)
        if new.adopted == before.adopted:
            return []
        earlier = "granted before the utility's last start" if before.pending == new.adopted else None
        epoch, because = self._because.get(microgrid, ((0, 0), None))
        is_alive = line is not None and line.alive(now)
        made = adopted(
            microgrid,
            new.adopted,
            grants.orders[microgrid],
            (holder, names[new.adopted[1]]),
            granted_because=because if epoch == new.adopted else earlier,
            is_alive=is_alive,
        )
        self.handovers[made.how] += 1
        self.moves[microgrid] += made.how in MOVES
        if made.how in MOVES and holder is not None and not is_alive:
            self._taken[microgrid] = holder, now
        return [made]

    def _count_false(self) -> None:
        """Count the controllers that were replaced as lost, and then gave a sign of the same start."""
        for microgrid, (name, at) in list(self._taken.items()):
            line = self._grants[self._group_of[microgrid]].signs.lines[name]
            if line.false_until - FALSE_FOR_S > at:
                self.false_takeovers += 1
            if line.heard > at:
                del self._taken[microgrid]
