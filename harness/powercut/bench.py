"""A gateway and a utility as real processes under the recorder, with load."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.network.waiting import become, cancelled
from harness.powercut.disk import Recorder, build, read_folder, records
from harness.powercut.load import GATEWAYS_METERS, TOWN, PlayedGateway, PlayedMeter, Player
from harness.powercut.recovered import Open, Recording, open_gateway, open_utility
from harness.real.site import Site

# The recorded parts, and the function that opens each one's store after a cut.
OPENING: dict[str, Open] = {"r001 gateway": open_gateway, "utility": open_utility}
# For which the gateway lets puts wait for others: less than ``AGAIN_S``, after which the players repeat them.
COMMIT_S = 0.2

_BROKERS = ("head-end", "r001 broker")


class Bench:
    """A site whose brokers run all the time; the recorded parts run during ``record``."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(folder / "town", TOWN, speed=1)
        self.site.add_setting("r001 gateway", f"commit_s = {COMMIT_S}")
        self._folder = folder
        self._library = build(folder)
        self._recorded = 0
        self._fresh = {name: read_folder(self.site.layout.part(name).config.parent) for name in OPENING}
        self.site.start(*_BROKERS)

    def record(
        self, messages: int, planted: str | None = None, meanwhile: Callable[["Session"], None] | None = None
    ) -> dict[str, Recording]:
        """Run gateway and utility under load; return each one's trace and acknowledgements.

        Args:
            messages: Acknowledged messages of each player after which the run ends.
            planted: A bug to plant; see ``planted.py``. The parts are then killed, which is quicker.
            meanwhile: Called, in a thread, once the load flows; the load ends ``messages`` messages after its return.
        """
        self._recorded += 1
        recorders = {name: self._recorder(name) for name in OPENING}
        for name, recorder in recorders.items():
            self.site.environments[name] = recorder.environment()
            command: Sequence[str] = self.site.layout.part(name).command
            if planted is not None:
                command = [command[0], str(Path(__file__).with_name("planted.py")), planted, *command[3:]]
            self.site.commands[name] = command
        self.site.start(*recorders)
        session = Session(self.site, recorders)
        asyncio.run(session.play(messages, meanwhile))
        if planted is None:
            self.site.stop(*recorders)
            session.check()
        else:
            for name in recorders:
                self.site.kill(name)
        return {name: session.recording(name) for name in recorders}

    def _recorder(self, name: str) -> Recorder:
        """Return a new recorder, and restore the part's files from before its first run."""
        folder = self.site.layout.part(name).config.parent
        for used in folder.glob("*.db*"):
            used.unlink()
        for path, content in self._fresh[name].items():
            Path(path).write_bytes(content)
        trace = self._folder / f"{name.replace(' ', '-')}-{self._recorded}.trace"
        return Recorder(self._library, folder, trace)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.site.__exit__(kind, error, trace)


class Session:
    """One recorded run."""

    def __init__(self, site: Site, recorders: dict[str, Recorder]) -> None:
        self.site = site  # its site
        self.recorders = recorders  # the recorders, by part
        # The players, by the part that acknowledges their messages.
        self.players: dict[str, list[Player]] = {
            "r001 gateway": [
                PlayedMeter(
                    meter, site.folder / "r001", address_of(site, "r001 broker"), recorders["r001 gateway"].position
                )
                for meter in GATEWAYS_METERS
            ],
            "utility": [
                PlayedGateway(site.folder / "r002", address_of(site, "head-end"), recorders["utility"].position)
            ],
        }

    async def play(self, messages: int, meanwhile: Callable[["Session"], None] | None) -> None:
        """Run all players."""
        players = [player for some in self.players.values() for player in some]
        tasks = [asyncio.create_task(work) for player in players for work in (player.link.run(), player.play())]
        try:
            await self._flow(1, tasks)
            if meanwhile is not None:
                await asyncio.to_thread(meanwhile, self)
            await self._flow(messages, tasks)
        finally:
            await cancelled(*tasks)

    async def _flow(self, messages: int, tasks: "list[asyncio.Task[None]]") -> None:
        """Wait until ``messages`` more messages of each player are acknowledged."""
        before = self.acknowledged()

        def flowed() -> bool:
            for task in tasks:
                if task.done():
                    task.result()  # A player only ends by an error.
            return all(now >= was + messages for was, now in zip(before, self.acknowledged(), strict=True))

        await become(flowed)

    def acknowledged(self) -> list[float]:
        """Return the number of acknowledged messages of each player."""
        return [len(player.acknowledged) for some in self.players.values() for player in some]

    def fail_syncs(self) -> None:
        """Make every sync of the recorded parts fail."""
        for recorder in self.recorders.values():
            recorder.failing.touch()

    def heal_syncs(self) -> None:
        """Make syncs succeed again."""
        for recorder in self.recorders.values():
            recorder.failing.unlink()

    def recording(self, name: str) -> Recording:
        """Return a part's trace and its acknowledgements."""
        recorder = self.recorders[name]
        acknowledged = [message for player in self.players[name] for message in player.acknowledged]
        return Recording(recorder.base, recorder.trace(), sorted(acknowledged, key=lambda message: message.position))

    def check(self) -> None:
        """Check that the recorders missed no operation of ended parts."""
        for name, recorder in self.recorders.items():
            disk = self.recording(name).disk(seed=0)
            for _, record in records(recorder.trace()):
                disk.feed(record)
            assert disk.seen() == recorder.content(), f"the recorder missed an operation of {name}"


def address_of(site: Site, name: str) -> str:
    """Return a broker's address."""
    host, port = site.address(name)
    return f"{host}:{port}"
