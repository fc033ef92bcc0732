"""A controller's part in one microgrid: whether it manages it, and when it takes it over or gives it back.

The rules and their reasons are in docs/controllers.md. A pure function of messages, meters' answers and time.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from math import inf

from commonwatt.clique.beats import BEAT_S, PAUSE_S, PROBE_S, PROBES, Signs
from commonwatt.clique.messages import Ask, CliqueMessage, Grant, Known, States, Tell, Vote, Who, Yield
from commonwatt.model.units import ControllerId, MeterId
from commonwatt.protocol.commands import Epoch, Raises
from commonwatt.protocol.topics import UTILITY
from gateway.clique.effects import AskMeters, Begin, CliqueEffect, EpochPair, Keep, Means, Post, TakeStates
from gateway.clique.hearing import AskedQuestion, Reports, Voter

ASKED_METERS = 4  # meters that are asked at once
METER_ANSWER_S = 3.0  # seconds within which a meter answers
GIVEN_UP_S = 15.0  # seconds after which a claim without a result begins anew


@dataclass
class Claim:
    """A claim that goes on."""

    lost: ControllerId  # the controller believed lost
    nonce: int  # its number, which the vote repeats
    began: float  # when it began
    asked: ControllerId | None  # the member that was asked; ``None``: there is none
    vote: str | None = None  # what that member saw; ``None``: no answer so far
    epochs: list[Epoch] = field(default_factory=list)  # the highest epochs that others named
    meters_asked: float = -1e9  # when meters were asked last
    acknowledged: dict[MeterId, bool] = field(default_factory=dict)  # what the meters saw

    def is_granted(self, needed: int) -> bool:
        """Return whether the member, or enough meters, saw the loss."""
        return self.vote == "lost" or len(self.acknowledged) >= needed

    @property
    def refused(self) -> bool:
        """Whether somebody saw life."""
        return self.vote == "alive" or any(self.acknowledged.values())


class MemberState(StrEnum):
    """A state."""

    DOUBTS = "doubts"  # has an epoch, and asks whether it is still the highest
    MANAGES = "manages"  # commands the meters
    STANDS_BY = "stands by"  # knows another manager, or none
    CLAIMS = "claims"  # asks whether the manager is lost
    YIELDS = "yields"  # gave the microgrid up, and repeats that until the receiver answers


RETURN_AFTER_S = 60.0  # seconds for which a controller is steady before it gets a microgrid back
ANSWER_S = 10.0  # seconds within which it answers that it has it
RETRY_S, RETRY_MOST_S = 600.0, 9_600.0  # seconds until a failed return is tried again: doubled each time
STRANGER_S = 600.0  # seconds between two questions about a manager that never gave a sign; each costs bytes
SEEN_S = 30.0  # seconds until the next claim against one whose answers its meters have
FRESH_S = 1.0  # seconds for which an answer before a return counts
STEP_S = PROBE_S / PROBES  # seconds between two steps in doubt, away from home, or while one says that it can't command


@dataclass
class _Yielding:
    to: ControllerId
    began: float
    sent: float


class Member:
    """A controller's part in one microgrid.

    Args:
        kept: What its store has.
        now: The time, of a clock that never goes back, seconds.
        further: How much further its first claim goes.
    """

    def __init__(self, post: Post, kept: EpochPair, signs: Signs, now: float, further: int) -> None:
        self.post, self.kept, self.signs, self.now = post, kept, signs, now
        self._further = further
        self.means = Means()  # what it can do
        self.sure = False  # whether its epoch was confirmed since its start or the last pause
        self.unkept = False  # whether its store does not have its epoch yet: until then no meter is commanded
        self.claim: Claim | None = None  # the claim that goes on
        self._voter = Voter(post.microgrid)
        self._raises = Raises()
        self._nonce = 0
        self._claim_after = self._return_after = 0.0
        self._failed_returns, self._gave_back = 0, now - RETRY_S
        self._able_since: float | None = None
        self._doubt()

    # What it is

    @property
    def commands(self) -> bool:
        """Whether it manages the microgrid."""
        return self.sure and self._holds

    @property
    def _holds(self) -> bool:
        return self.kept.held == self.kept.highest and self.kept.held[0] > 0

    @property
    def state(self) -> MemberState:
        """Its state."""
        if self.commands:
            return MemberState.MANAGES
        if self._yielding is not None:
            return MemberState.YIELDS
        if self.claim is not None:
            return MemberState.CLAIMS
        return MemberState.DOUBTS if self._holds else MemberState.STANDS_BY

    @property
    def watched(self) -> ControllerId | None:
        """Whose loss would leave the microgrid without a manager; ``None``: only its own."""
        holder = self.post.names.get(self.kept.highest[1]) if self.kept.highest[0] else self.post.order[0]
        return None if holder == self.post.own else holder

    def rests_until(self, now: float) -> float:
        """Return until when no step is needed, if no message comes and no line changes."""
        if self._voter.waiting or self.claim is not None or self._yielding is not None:
            return now
        is_unable = any(self.post.microgrid in line.unable for line in self.signs.lines.values())
        is_calm = (
            not self.post.before if self.commands else self.state is MemberState.STANDS_BY and not self._is_in_doubt()
        )
        return inf if is_calm and not is_unable else now + STEP_S

    def epoch_for(self, meter: MeterId) -> Epoch:
        """Return the epoch under which it commands a meter."""
        return self._reports.within_step(meter, self.kept.held)

    def known(self) -> Known:
        """Return what it knows, as a message."""
        return Known(
            microgrid=self.post.microgrid,
            highest=self.kept.highest,
            manages=self.commands,
            doubts=self.claim is not None or self._voter.doubts(self.kept.highest, self.now),
            meters=self.means.connected if self._is_steady else 0,
        )

    def restore(self, kept: EpochPair) -> None:
        """Go on from what the store has, since it did not take what was to be kept."""
        self.kept = kept
        self.unkept = False
        self._doubt()

    def may_command(self, now: float) -> bool:
        """Return whether it manages the microgrid now; after a pause it does not know."""
        self._wake(now)
        return self.commands and not self.unkept

    @property
    def _is_steady(self) -> bool:
        """Whether it could command for as long as a return needs; the others do not always hear how able it is."""
        return self._able_since is not None and self.now - self._able_since >= RETURN_AFTER_S

    # Time

    def tick(self, now: float) -> list[CliqueEffect]:
        """Do what is due."""
        self._wake(now)
        self._able_since = None if not self.means else now if self._able_since is None else self._able_since
        effects = self._votes()
        if self.commands:
            return effects + self._give_back()
        if self._yielding is not None:
            return effects + self._go_on_yielding(self._yielding)
        effects += self._begin_claim() if self.claim is None else self._go_on(self.claim)
        return effects + self._ask_around() if self.claim is None and self._is_in_doubt() else effects

    def _wake(self, now: float) -> None:
        """Note the time; after a pause the epoch is in doubt."""
        was_paused, self.now = now - self.now > PAUSE_S, now
        if was_paused:
            self._doubt()

    def _doubt(self) -> None:
        """Command nothing until the epoch is confirmed."""
        self.sure, self.claim = False, None
        self._yielding: _Yielding | None = None
        self._reports = Reports(self.post.meters)
        self._knows: dict[ControllerId, tuple[float, Known]] = {}
        self._asked_who = self._asked_meters = self.now - BEAT_S

    @property
    def _watches_stranger(self) -> bool:
        return self.watched is not None and self.signs.lines[self.watched].is_stranger(self.now)

    def _is_in_doubt(self) -> bool:
        watched = self.watched
        return watched is None or not self.kept.highest[0] or not self.signs.lines[watched].alive(self.now)

    def _ask_around(self) -> list[CliqueEffect]:
        """Ask the others and some meters under which epoch the microgrid is managed."""
        effects: list[CliqueEffect] = []
        more_s = STRANGER_S if self._watches_stranger else 0.0
        if self.now - self._asked_who >= BEAT_S + more_s:
            self._asked_who = self.now
            effects += [Tell(name, Who(microgrid=self.post.microgrid)) for name in (*self.post.others, UTILITY)]
        return effects + (self._ask_meters(None) if self.now - self._asked_meters >= METER_ANSWER_S + more_s else [])

    def _ask_meters(self, about: ControllerId | None) -> list[CliqueEffect]:
        self._asked_meters = self.now
        return [AskMeters(self.post.microgrid, about, ASKED_METERS)]

    # Claims

    def _fails(self, name: ControllerId) -> bool:
        return self.signs.lines[name].fails(self.post.microgrid, self.now)

    def _may_claim(self) -> bool:
        """Return whether it is the one that claims: able, without the utility, and the first of those that could."""
        if not self.means or self.now < self._claim_after or self.signs.lines[UTILITY].alive(self.now):
            return False
        nearer = [name for name in self.post.before if name != self.watched]
        return all(self._fails(name) or not self.signs.lines[name].alive(self.now) for name in nearer)

    def _begin_claim(self) -> list[CliqueEffect]:
        """Begin a claim when the manager's sign is late; without any other manager, claim at once."""
        if not self._may_claim():
            return []
        lost = self.watched
        if lost is None:
            return self._claim_above([], "nobody else manages it") if self._nobody_else() else []
        if not (self.signs.lines[lost].suspect(self.now) or self._fails(lost)):
            return []
        alive = (name for name in self.post.others if name != lost and self.signs.lines[name].alive(self.now))
        self._nonce += 1
        self.claim = Claim(lost, self._nonce, self.now, next(alive, None))
        if self.claim.asked is None:
            return self._go_on(self.claim)
        epoch = self.kept.highest if self.kept.highest[0] else (0, self.post.ranks[lost])
        return [Tell(self.claim.asked, Ask(microgrid=self.post.microgrid, lost=epoch, nonce=self._nonce))]

    def _nobody_else(self) -> bool:
        """Return whether meters, and the others that are alive, answered: then none but the own rank is known."""
        answers = len(self._reports.by_meter)
        waited = self.now - self._asked_meters >= METER_ANSWER_S - 0.5
        answered = answers >= min(ASKED_METERS, self.post.meters) or (waited and answers >= self._reports.needed)
        alive = [name for name in self.post.others if self.signs.lines[name].alive(self.now)]
        return answered and all(name in self._knows for name in alive)

    def _go_on(self, claim: Claim) -> list[CliqueEffect]:
        """Go on with a claim: end it, wait, ask meters, or take the microgrid over."""
        fails, line = self._fails(claim.lost), self.signs.lines[claim.lost]
        is_over = self.now - claim.began > GIVEN_UP_S or not (fails or line.suspect(self.now)) or not self._may_claim()
        if claim.refused or is_over:
            self.claim = None
            is_seen = self._watches_stranger and claim.vote != "alive"
            self._claim_after = self.now + ((SEEN_S if is_seen else BEAT_S) if claim.refused else 0)
            return []
        if fails and claim.is_granted(self._reports.needed):
            seen = f"{claim.asked} saw the same" if claim.vote == "lost" else "its meters have no answer of it"
            return self._claim_above(claim.epochs, f"{claim.lost} can't command it, and {seen}")
        asks_meters = claim.asked is None or claim.vote == "nothing" or (fails and claim.vote is None)
        if not asks_meters or self.now - claim.meters_asked <= METER_ANSWER_S + 1:
            return []
        claim.meters_asked = self.now
        return self._ask_meters(claim.lost)

    def _claim_above(self, epochs: list[Epoch], why: str) -> list[CliqueEffect]:
        known = max([self.kept.highest, *epochs])
        # A store without a grant may be a new one: the one before it may have granted what nobody saw.
        more = self._further if self.kept.held[0] <= 1 else 0
        return self._hold((self._reports.above(known) + more, self.post.ranks[self.post.own]), why)

    # Epochs

    def _hold(self, epoch: Epoch, why: str = "") -> list[CliqueEffect]:
        """Manage the microgrid under a new epoch from now on."""
        self.kept = EpochPair(epoch, epoch)
        self.sure, self.claim, self._yielding = True, None, None
        # Whoever gets it again so soon after it gave it back waits longer: the receiver could not hold it.
        is_back = self.now - self._gave_back < RETRY_S
        self._failed_returns = self._failed_returns + 1 if is_back else 0
        wait_s = min(RETRY_S * 2 ** (self._failed_returns - 1), RETRY_MOST_S) if is_back else RETURN_AFTER_S
        self._return_after = self.now + wait_s
        tell = [Tell(name, self.known()) for name in (*self.post.others, UTILITY)]
        return [Keep(self.post.microgrid, self.kept), Begin(self.post.microgrid, epoch, why), *tell]

    def _adopt(self, epoch: Epoch) -> list[CliqueEffect]:
        """Know a higher epoch; a manager is deposed by it."""
        was_manager = self.commands
        self.kept = EpochPair(self.kept.held, epoch)
        self.claim, self._yielding = None, None
        self.sure = self.sure and not was_manager
        tell: list[CliqueEffect] = [Tell(UTILITY, self.known())] if was_manager else []
        return [Keep(self.post.microgrid, self.kept), *tell]

    def _confirm(self) -> list[CliqueEffect]:
        """Be sure of the held epoch; the utility learns it."""
        if self.sure or not self._holds:
            return []
        self.sure = True
        return [Tell(UTILITY, self.known())]

    # Return

    def _give_back(self) -> list[CliqueEffect]:
        """Give the microgrid to a steady controller that comes before this one."""
        first = next((name for name in self.post.before if self._steady_s(name) >= RETURN_AFTER_S), None)
        if first is None or self.now < self._return_after:
            return []
        at, said = self._knows.get(first, (0.0, None))
        # What it said earlier is not enough: it may have died since.
        if said is None or said.meters < max(1, self.means.connected) or self.now - at > FRESH_S:
            if self.now - self._asked_who < BEAT_S:
                return []
            self._asked_who = self.now
            return [Tell(first, Who(microgrid=self.post.microgrid))]
        epoch = (self.kept.held[0] + 1, self.post.ranks[first])
        self.kept = EpochPair(self.kept.held, epoch)
        self._yielding = _Yielding(first, self.now, self.now)
        self._gave_back = self.now
        return [Keep(self.post.microgrid, self.kept), Tell(first, Yield(microgrid=self.post.microgrid, epoch=epoch))]

    def _steady_s(self, name: ControllerId) -> float:
        """Return for how long one is steady; while the utility is heard, also there: else it would grant this anew."""
        steady_s = self.signs.lines[name].steady_s(self.post.microgrid, self.now)
        has_utility = self.signs.lines[UTILITY].alive(self.now)
        return min(steady_s, self.now - self.signs.utility_hears.get(name, self.now)) if has_utility else steady_s

    def _go_on_yielding(self, yielding: _Yielding) -> list[CliqueEffect]:
        """Repeat a yield until it is answered, or given up; then the rules of loss hold for its receiver."""
        if self.now - yielding.began > ANSWER_S:
            self._yielding = None
            return []
        if self.now - yielding.sent < 1:
            return []
        yielding.sent = self.now
        return [Tell(yielding.to, Yield(microgrid=self.post.microgrid, epoch=self.kept.highest))]

    # Messages

    def handle(self, sender: ControllerId, message: CliqueMessage, now: float) -> list[CliqueEffect]:
        """Handle a message of a member of the clique, or of the utility; what is not theirs to say is ignored."""
        self._wake(now)
        if sender not in self.post.others and sender != UTILITY:
            return []
        match message:
            case Grant():
                return self._offered(sender, message.epoch, message.replaces) if sender == UTILITY else []
            case Who():
                return [Tell(sender, self.known())]
            case Known():
                return self._told(sender, message)
            case Ask():
                self._voter.ask(AskedQuestion(sender, message, now))
                return self._votes()
            case Vote():
                return self._voted(sender, message)
            case States():
                is_of_manager = sender == self.post.names.get(self.kept.highest[1]) and not self.commands
                return [TakeStates(message)] if is_of_manager else []
            case Yield():
                # Only the manager gives a microgrid away.
                is_its = sender == self.post.names.get(self.kept.highest[1]) and self._may_raise(sender, message.epoch)
                return self._offered(sender, message.epoch, self.kept.highest) if is_its else []

    def _votes(self) -> list[CliqueEffect]:
        """Answer the questions whose time has come."""
        if not self._voter.waiting:
            return []
        names = {} if self.commands else self.post.names
        lines = {rank: self.signs.lines[name] for rank, name in names.items() if name != self.post.own}
        return [
            Tell(one.by, Vote(microgrid=self.post.microgrid, nonce=one.ask.nonce, saw=saw, highest=self.kept.highest))
            for one, saw in self._voter.take(self.now, lines, self.kept.highest)
        ]

    def _told(self, sender: ControllerId, known: Known) -> list[CliqueEffect]:
        """Learn what another one knows."""
        self._knows[sender] = self.now, known
        if known.manages:
            self.signs.says(sender, self.post.microgrid, self.now, able=True)
        if known.highest <= self.kept.highest:
            if self._yielding is not None and sender == self._yielding.to and known.manages:
                self._yielding = None
            return [] if known.doubts else self._confirm()
        # A controller's own word counts where nothing is at stake; the utility's, and two meters', depose.
        is_own_word = sender == self.post.names.get(known.highest[1]) and not self.commands
        if sender == UTILITY or (is_own_word and self._may_raise(sender, known.highest)):
            return self._adopt(known.highest)
        return [] if self.now - self._asked_meters < METER_ANSWER_S else self._ask_meters(None)

    def _may_raise(self, sender: ControllerId, epoch: Epoch) -> bool:
        return self._raises.allow(sender, self.kept.highest[0], epoch[0], self.now)

    def _voted(self, sender: ControllerId, vote: Vote) -> list[CliqueEffect]:
        claim = self.claim
        if claim is None or vote.nonce != claim.nonce or sender != claim.asked:
            return []
        claim.vote = vote.saw
        if self._may_raise(sender, vote.highest):
            claim.epochs.append(vote.highest)
        return self._go_on(claim)

    def _offered(self, sender: ControllerId, epoch: Epoch, replaces: Epoch) -> list[CliqueEffect]:
        """Take a microgrid that the manager or the utility gives, unless more is known here."""
        is_mine = epoch[1] == self.post.ranks[self.post.own]
        if is_mine and self.kept.highest < epoch and self.kept.highest <= replaces and self.means:
            return self._hold(epoch, "the utility granted it" if sender == UTILITY else f"{sender} gave it back")
        return [Tell(sender, self.known())]

    def meter_said(
        self, meter: MeterId, epoch: Epoch, now: float, acknowledged: bool | None = None
    ) -> list[CliqueEffect]:
        """Handle the epoch that a meter reports, and whether a controller that it was asked about acknowledged."""
        self._wake(now)
        self._reports.say(meter, epoch)
        if self.claim is not None and acknowledged is not None:
            # A manager may acknowledge, and say itself that it can't command.
            says_so = self._fails(self.claim.lost) and not self.signs.lines[self.claim.lost].lost(now)
            self.claim.acknowledged[meter] = acknowledged and not says_so
        if (believed := self._reports.believed(self.kept.highest)) > self.kept.highest:
            return self._adopt(believed)
        effects = self._confirm() if self._reports.confirm(self.kept.held) else []
        return effects if self.claim is None else effects + self._go_on(self.claim)
