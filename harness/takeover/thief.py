"""A thief with the credentials of one controller in the world of takeovers: it says anything, to all."""

from commonwatt.cliques.signs import Beat, Bits
from commonwatt.model.units import ControllerId
from commonwatt.protocol.clique_messages import Ask, CliqueMessage, Grant, Known, SendBeat, Tell, Vote, Who, Yield
from commonwatt.protocol.commands import EPOCH_STEP, Epoch
from commonwatt.protocol.topics import UTILITY
from harness.takeover.world import NAMES, RANKS, World

SAYS_EVERY_S = 0.2  # seconds between two things that it says


class Thief:
    """One that took a controller's place; ``until``: when it loses it."""

    def __init__(self, world: World, name: ControllerId, until: float) -> None:
        self.world, self.name, self.until = world, name, until
        self.highest = 1  # the highest counter that it said
        world.kill(name)
        world.machines[name].stolen = True
        world.tell(f"{name} is stolen")
        self._say()

    def _say(self) -> None:
        world = self.world
        if world.now >= self.until:
            world.kill(self.name)
            world.start(self.name)
            return
        chance = world.chance
        to = chance.choice([name for name in (*NAMES, UTILITY) if name != self.name])
        some = frozenset(name for name in NAMES if chance.random() < 0.5)
        beat = Beat(Bits(able=some, manages=some), is_answer=chance.random() < 0.5)
        world.write(self.name, SendBeat(to, beat) if chance.random() < 0.3 else Tell(to, self._message()))
        world.after(SAYS_EVERY_S, self._say)

    def _message(self) -> CliqueMessage:
        chance, grid = self.world.chance, self.world.chance.choice(NAMES)
        match chance.randrange(6):
            case 0:
                return Who(microgrid=grid)
            case 1:
                return Ask(microgrid=grid, lost=self._epoch(), nonce=chance.randrange(9))
            case 2:
                return Vote(microgrid=grid, nonce=chance.randrange(9), saw="lost", highest=self._epoch())
            case 3:
                return Yield(microgrid=grid, epoch=self._epoch())
            case 4:
                return Grant(microgrid=grid, epoch=self._epoch(), replaces=self._epoch())
            case _:
                return Known(microgrid=grid, highest=self._epoch(), manages=True)

    def _epoch(self) -> Epoch:
        """Return an epoch a step above the last one, or a bit, or far beyond."""
        step = self.world.chance.choice((0, 1, 1, EPOCH_STEP, EPOCH_STEP, 2**31))
        counter = min(self.highest + step, 2**32 - 1)
        self.highest = counter if step <= EPOCH_STEP else self.highest
        return counter, self.world.chance.choice((RANKS[self.name], *RANKS.values()))
