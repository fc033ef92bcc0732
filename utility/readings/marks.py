"""Where the database is in its own history: the marks that acknowledgements carry; pure (docs/stores.md)."""

from dataclasses import dataclass, field

from commonwatt.protocol.batches import MAX_MARKS, Mark

MOST_RUNS = MAX_MARKS - 2  # earlier runs with data that are kept


@dataclass(frozen=True)
class Earlier:
    """An earlier run."""

    last: int  # its last commit that the database has; 0: none
    noticed: bool = False  # whether it is known that later ones are lost


@dataclass
class Marks:
    """The run of this service, its commits, and the earlier runs, as the database has them."""

    run: int = 0  # a random number; 0: none was begun yet
    counter: int = 0  # this run's commits of what gateways sent
    earlier: dict[int, Earlier] = field(default_factory=dict)  # the earlier runs, the oldest first

    @property
    def next(self) -> Mark:
        """The mark of the next commit."""
        return self.run, self.counter + 1

    @property
    def history(self) -> tuple[Mark, ...]:
        """The last mark of every run that the database has; this run's is that of the next commit."""
        return (*((run, one.last) for run, one in self.earlier.items() if one.last), self.next)

    def lacks(self, mark: Mark) -> bool:
        """Return whether a mark that a gateway saw is of a lost commit that nobody noticed yet."""
        run, counter = mark
        if run == self.run:
            return counter > self.counter
        known = self.earlier.get(run, Earlier(0))
        return counter > known.last and not known.noticed
