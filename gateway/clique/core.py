"""A controller's part in its clique: it beats, watches the others, and has a member for each microgrid."""

from collections.abc import Mapping

from commonwatt.clique.beats import BEAT_S, Beat, Bits, Signs
from commonwatt.clique.messages import CliqueMessage, SendBeat, Tell, Who
from commonwatt.model.units import ControllerId, MicrogridId
from commonwatt.protocol.topics import UTILITY
from gateway.clique.effects import CliqueEffect, EpochPair, Post
from gateway.clique.member import Member


class CliqueCore:
    """One controller in its clique.

    Args:
        posts: Its places, one for each microgrid that it may manage.
        kept: What its store has of them.
        now: The time, of a clock that never goes back, seconds.
        further: How much further its first claim goes; differs from that of a store that was lost.
    """

    def __init__(
        self, own: ControllerId, posts: list[Post], kept: Mapping[MicrogridId, EpochPair], now: float, further: int = 0
    ) -> None:
        self.own = own
        peers = {name for post in posts for name in post.order} - {own}
        self.signs = Signs((*sorted(peers), UTILITY), now)
        self.members = {p.microgrid: Member(p, kept[p.microgrid], self.signs, now, further) for p in posts}
        self._peers = sorted(peers)

    def bits(self, *, leaves: bool = False) -> Bits:
        """Return what its beats say."""
        members = self.members.items()
        return Bits(
            able=frozenset(name for name, member in members if member.means.able),
            manages=frozenset(name for name, member in members if member.commands),
            commits=all(member.means.commits for _, member in members),
            leaves=leaves,
        )

    def note(self, now: float) -> bool:
        """Note the time; return whether this place was stopped since it was noted last: a step is due."""
        for member in self.members.values():
            member.may_command(now)
        return self.signs.wake(now)

    def tick(self, now: float) -> list[CliqueEffect]:
        """Do what is due."""
        self.signs.wake(now)
        return [*self._beats(now), *(effect for member in self.members.values() for effect in member.tick(now))]

    def rests_until(self, now: float) -> float:
        """Return until when no step is needed if nothing comes: the next beat, probe, loss, or step of a member."""
        lines = self.signs.lines
        beaten, watched = self._beaten(now), {member.watched for member in self.members.values()} - {None}
        beats = (lines[name].beat + BEAT_S for name in beaten)
        changes = (lines[n].changes_at(now, is_probed=n in beaten) for n in lines if n in watched or n in beaten)
        return min(*beats, *changes, *(member.rests_until(now) for member in self.members.values()))

    def _beaten(self, now: float) -> list[ControllerId]:
        """Return who gets beats and probes: the utility, and without it all others."""
        lines = self.signs.lines
        alone = not lines[UTILITY].alive(now)
        return [UTILITY, *(name for name in self._peers if alone or now < lines[name].wanted_until)]

    def _beats(self, now: float) -> list[CliqueEffect]:
        signs = self.signs
        due = [n for n in self._beaten(now) if signs.beat_is_due(n, now) or signs.lines[n].probe_is_due(now)]
        return [self._beat(name) for name in due]

    def _beat(self, to: ControllerId, *, is_answer: bool = False) -> SendBeat:
        return SendBeat(to, Beat(self.bits(), is_answer=is_answer))

    def leave(self) -> list[SendBeat]:
        """Return the last beats before a planned stop: it will be back by itself, and is not lost meanwhile."""
        beat = Beat(self.bits(leaves=True))
        return [SendBeat(name, beat) for name in (*self._peers, UTILITY)]

    def beat(self, sender: ControllerId, beat: Beat, now: float) -> list[CliqueEffect]:
        """Handle a datagram."""
        if sender not in self.signs.lines:
            return []
        answer: list[CliqueEffect] = [] if beat.is_answer else [self._beat(sender, is_answer=True)]
        self.signs.wake(now)
        if not (beat.is_fresh and self.signs.sign(sender, now, beat)):
            return answer  # The next beat proves that its sender lives, if it has this answer.
        if sender == UTILITY and beat.is_answer:
            self.signs.utility_hears = {name: self.signs.utility_hears.get(name, now) for name in beat.hears}
        for name in beat.hears & set(self._peers):
            self.signs.sign(name, now)
        asked = [] if sender == UTILITY else self._read(sender, beat.bits, now)
        return [*asked, *answer]

    def _read(self, sender: ControllerId, bits: Bits, now: float) -> list[CliqueEffect]:
        """Compare what a beat says with what is known; ask where they differ."""
        effects: list[CliqueEffect] = []
        for name, member in self.members.items():
            is_holder, manages = member.post.names.get(member.kept.highest[1]) == sender, name in bits.manages
            is_able = name in bits.able and bits.commits and (manages or not is_holder)
            self.signs.says(sender, name, now, able=is_able)
            effects += [Tell(sender, Who(microgrid=name))] if manages and not is_holder else []
        return effects

    def handle(self, sender: ControllerId, message: CliqueMessage, now: float) -> list[CliqueEffect]:
        """Handle a message; one about a microgrid of another clique is ignored."""
        member = self.members.get(message.microgrid)
        if sender not in self.signs.lines or member is None:
            return []
        self.signs.wake(now)
        return member.handle(sender, message, now)
