"""Planted bugs of takeover: each takes away one guard of its rules, and the worlds of a clique must find it."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import cast
from unittest.mock import patch

from commonwatt.clique import beats
from commonwatt.clique.beats import Beat, NumberWindow, PeerLine
from commonwatt.clique.messages import Datagrams, TakenDatagram
from commonwatt.device import sessions as brokers
from commonwatt.device.commands import EpochGuard
from commonwatt.device.meter import Effects, MeterCore
from commonwatt.device.records import consolidate
from commonwatt.device.sessions import Brokers
from commonwatt.model.effects import Write
from commonwatt.protocol.commands import Epoch, Raises
from gateway.clique import member
from gateway.clique.core import CliqueCore
from gateway.clique.effects import AskMeters, CliqueEffect, EpochPair, Keep
from gateway.clique.hearing import AskedQuestion, Reports, Saw, Voter
from gateway.clique.member import Member
from harness.world.clique import part
from harness.world.planted import Bug
from utility.cliques import grants
from utility.cliques.grants import Grants

Plant = Callable[[], AbstractContextManager[object]]


def _equal_ranks() -> AbstractContextManager[object]:
    return patch.dict(part.RANKS, {"r002": 1})


def _without_keep(what: str) -> Plant:
    """Let a rule of a member not make durable what it decides."""

    @contextmanager
    def plant() -> Iterator[None]:
        rule = getattr(Member, what)

        def forgetting(self: Member, *given: object) -> list[CliqueEffect]:
            return [effect for effect in rule(self, *given) if not isinstance(effect, Keep)]

        with patch.object(Member, what, forgetting):
            yield

    return plant


@contextmanager
def _no_fence() -> Iterator[None]:
    """A deposed manager commands on."""
    with patch.object(Member, "_holds", property(lambda self: self.kept.held[0] > 0)):
        yield


@contextmanager
def _forgets() -> Iterator[None]:
    """A deposed manager forgets it at a restart, and is sure of its epoch."""
    begin = Member.__init__

    def forgetting(self: Member, *given: object) -> None:
        begin(self, *given)  # type: ignore[arg-type]
        self.kept = EpochPair(self.kept.held, self.kept.held)
        self.sure = True

    with patch.object(Member, "__init__", forgetting):
        yield


@contextmanager
def _always_sure() -> Iterator[None]:
    """A manager that was paused, or has an old store, does not doubt its epoch."""
    doubt = Member._doubt

    def never(self: Member) -> None:
        doubt(self)
        self.sure = True

    with patch.object(Member, "_doubt", never):
        yield


@contextmanager
def _raised() -> Iterator[None]:
    """A controller raises its own epoch above what a meter reports of its own rank, without a grant."""
    said = Member.meter_said

    def raising(self: Member, meter: int, epoch: Epoch, *more: object) -> list[CliqueEffect]:
        if epoch > self.kept.highest and epoch[1] == self.post.ranks[self.post.own]:
            self.kept = EpochPair((epoch[0] + 1, epoch[1]), (epoch[0] + 1, epoch[1]))
            self.sure = True
        return said(self, meter, epoch, *more)  # type: ignore[arg-type]

    with patch.object(Member, "meter_said", raising):
        yield


@contextmanager
def _asks_about_itself() -> Iterator[None]:
    """The question names the asker, whose own acknowledgement ends its claim."""
    ask = Member._ask_meters

    def about_itself(self: Member, about: str | None) -> list[CliqueEffect]:
        asked = ask(self, about)
        return [
            AskMeters(each.microgrid, self.post.own, each.count) if about and isinstance(each, AskMeters) else each
            for each in asked
        ]

    with patch.object(Member, "_ask_meters", about_itself):
        yield


def _only_lost(line: PeerLine, _: str, now: float) -> bool:
    return line.lost(now)


@contextmanager
def _collector_hides() -> Iterator[None]:
    """A manager that can't command, but beats, is never lost."""
    with patch.object(PeerLine, "fails", _only_lost):
        yield


@contextmanager
def _one_meter_believed() -> Iterator[None]:
    """One meter's word deposes."""
    begin = Reports.__init__

    def believing(self: Reports, meters: int) -> None:
        begin(self, meters)
        self.needed = 1

    with patch.object(Reports, "__init__", believing):
        yield


@contextmanager
def _raises_all_day() -> Iterator[None]:
    """A meter lets one rank raise its epoch for ever."""
    with patch.object(EpochGuard, "_recent", return_value=[]):
        yield


@contextmanager
def _old_grant() -> Iterator[None]:
    """The utility's grant is taken, whatever is known since."""
    offered = Member._offered

    def taking(self: Member, sender: str, epoch: Epoch, replaces: Epoch) -> list[CliqueEffect]:
        if epoch[1] == self.post.ranks[self.post.own] and not self.commands:
            return self._hold(epoch)
        return offered(self, sender, epoch, replaces)

    with patch.object(Member, "_offered", taking), patch.object(Grants, "_told", _told_without_clearing):
        yield


def _told_without_clearing(*_: object) -> list[object]:
    return []


@contextmanager
def _stale_yield() -> Iterator[None]:
    """A microgrid is given back to whom an old answer says that it lives."""
    with patch.object(member, "FRESH_S", 1e9):
        yield


@contextmanager
def _any_step() -> Iterator[None]:
    """What two meters say is believed, however far it is above what is known."""

    def believed(self: Reports, known: Epoch) -> Epoch:
        del known
        found = sorted(self.by_meter.values(), reverse=True)
        return found[self.needed - 1] if len(found) >= self.needed else (0, 0)

    with patch.object(Reports, "believed", believed):
        yield


@contextmanager
def _above_all() -> Iterator[None]:
    """A claim goes above whatever a meter says."""

    def above(self: Reports, known: Epoch) -> int:
        return 1 + max([known[0], *(epoch[0] for epoch in self.by_meter.values())])

    with patch.object(Reports, "above", above):
        yield


@contextmanager
def _nothing_is_lost() -> Iterator[None]:
    """A member that never heard the manager votes that it is lost."""
    saw = Voter._saw

    def seeing(self: Voter, one: AskedQuestion, line: PeerLine | None, now: float) -> Saw | None:
        found = saw(self, one, line, now)
        return "lost" if found == "nothing" else found

    with patch.object(Voter, "_saw", seeing):
        yield


@contextmanager
def _never_doubts() -> Iterator[None]:
    """A member confirms the manager against which it has just voted."""
    with patch.object(Voter, "doubts", return_value=False):
        yield


@contextmanager
def _keeps_to_itself() -> Iterator[None]:
    """A manager that was confirmed does not say so to the utility."""
    confirm = Member._confirm

    def silent(self: Member) -> list[CliqueEffect]:
        confirm(self)
        return []

    with patch.object(Member, "_confirm", silent):
        yield


def _grants_at_once() -> AbstractContextManager[object]:
    """The utility grants as soon as it starts."""
    return patch.object(grants, "QUIET_S", 0.0)


@contextmanager
def _acknowledgement_counts() -> Iterator[None]:
    """A manager that says that it can't command is no lost one while it acknowledges."""
    said = Member.meter_said

    def saying(
        self: Member, meter: int, epoch: Epoch, now: float, acknowledged: bool | None = None
    ) -> list[CliqueEffect]:
        if acknowledged and self.claim is not None:
            self.claim.vote = "alive"
        return said(self, meter, epoch, now, acknowledged)

    with patch.object(Member, "meter_said", saying):
        yield


@contextmanager
def _same_claim() -> Iterator[None]:
    """The first claim of a new store is the same as that of the store before it."""
    begin = CliqueCore.__init__

    def not_further(self: CliqueCore, *given: object) -> None:
        begin(self, *given[:4])  # type: ignore[arg-type]

    with patch.object(CliqueCore, "__init__", not_further):
        yield


class _Numbered(Datagrams):
    """Beats without a session: whoever heard a number hears no lower one any more."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)  # type: ignore[arg-type]
        self._number, self._heard = 0, -1.0

    def beat(self, beat: Beat, now: float) -> bytes:
        del now
        self._number += 1
        return pickle.dumps(replace(beat, number=self._number))

    def take(self, data: bytes, now: float) -> TakenDatagram:
        if data[:1] != pickle.PROTO:
            return super().take(data, now)
        beat: Beat = pickle.loads(data)
        if beat.number <= self._heard:
            return TakenDatagram(refused="repeated")
        self._heard = beat.number
        return TakenDatagram((beat,))


def _no_sessions() -> AbstractContextManager[object]:
    """A start of a controller or the utility begins its numbers anew."""
    return patch.object(part, "Datagrams", _Numbered)


def _counts_twice() -> AbstractContextManager[object]:
    """A number counts as often as it comes."""
    return patch.object(NumberWindow, "take", return_value=True)


def _late_is_fresh() -> AbstractContextManager[object]:
    """A beat is a sign of life, however long ago what it echoes was sent."""
    return patch.object(beats, "FRESH_S", 1e9)


@contextmanager
def _drops_when_moved() -> Iterator[None]:
    """A put under way is forgotten when data goes to another broker."""
    again = MeterCore.send_again

    def dropping(self: MeterCore, now: float) -> Effects:
        logs = [each.log for each in self._deliveries.values()]
        return [*again(self, now), *(Write(log.delete_batch()) for log in logs if log.frozen)]

    with patch.object(MeterCore, "send_again", dropping):
        yield


@contextmanager
def _repacked_when_moved() -> Iterator[None]:
    """A put under way is made of merged records when data goes to another broker, under the same ids."""
    again = MeterCore.send_again

    def merging(self: MeterCore, now: float) -> Effects:
        self.history.frozen = 0
        return [*(Write(change) for change in self.history.aggregate(consolidate)), *again(self, now)]

    with patch.object(MeterCore, "send_again", merging):
        yield


@contextmanager
def _revoked_kept() -> Iterator[None]:
    """A session with a revoked controller's broker is kept."""
    sessions = cast("property", Brokers.sessions).fget
    assert sessions is not None
    with patch.object(Brokers, "sessions", property(lambda self: sessions(self) | self.revoked.ranks.keys())):
        yield


def _dead_pin_kept() -> AbstractContextManager[object]:
    """Data goes to the first broker of an order alone."""
    return patch.object(brokers, "IN_USE", 1)


def _every_word_raises() -> AbstractContextManager[object]:
    """One member raises a counter as often and as far as it likes."""
    return patch.object(Raises, "allow", return_value=True)


_PLANTS: dict[str, Plant] = {
    "a put forgotten on a move": _drops_when_moved,
    "a put merged on a move": _repacked_when_moved,
    "a session kept with a revoked controller": _revoked_kept,
    "a dead pin that is never left": _dead_pin_kept,
    "beats without a session": _no_sessions,
    "a beat that counts twice": _counts_twice,
    "a beat that is fresh for ever": _late_is_fresh,
    "one word that raises without end": _every_word_raises,
    "equal ranks": _equal_ranks,
    "a term that is not durable": _without_keep("_hold"),
    "a deposition that is not durable": _without_keep("_adopt"),
    "a yield that is not durable": _without_keep("_give_back"),
    "a fenced manager commands on": _no_fence,
    "a fence forgotten at a restart": _forgets,
    "a paused manager is sure": _always_sure,
    "the own rank raised without a grant": _raised,
    "the asker's own acknowledgement ends its claim": _asks_about_itself,
    "a dead manager hidden by a living collector": _collector_hides,
    "an epoch adopted from one meter": _one_meter_believed,
    "a thief that raises all day": _raises_all_day,
    "a grant repeated after a claim": _old_grant,
    "a yield to whom an old answer names": _stale_yield,
    "a counter that meters invent": _any_step,
    "a claim above whatever a meter says": _above_all,
    "a vote without a sign": _nothing_is_lost,
    "a voter that confirms whom it voted against": _never_doubts,
    "the same claim after a lost store": _same_claim,
    "a confirmed manager that keeps it to itself": _keeps_to_itself,
    "a utility that grants as soon as it starts": _grants_at_once,
    "an acknowledgement that outweighs the manager's own word": _acknowledgement_counts,
}

CLIQUE_BUGS = {name: Bug(plant) for name, plant in _PLANTS.items()}
"""By name."""
