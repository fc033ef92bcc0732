"""What a gateway does for its clique: durable epochs, grants, and the list of revoked controllers (R5)."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from commonwatt.clique.beats import BEAT_S, LATE_S, Beat, Signs
from commonwatt.clique.cliques import Clique, CliqueFile, CliquePeer, save_cliques
from commonwatt.clique.messages import States
from commonwatt.config.settings import GatewaySettings
from commonwatt.model.effects import Publish
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import MeterId
from commonwatt.protocol.commands import Command, Outcome
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.topics import COMMANDS, UTILITY, meter_down
from commonwatt.sqlite import SqliteError
from commonwatt.town.registry import REVOKED_FILE, RegisteredController, Registry, SignedList, save_registry
from gateway.clique.effects import EpochPair, Post
from gateway.clique.kept import AGAIN_S, AT_ONCE, FORGET_S, Hooks, Registries, RevokedOffer
from gateway.clique.member import STEP_S, Member
from gateway.clique.shell import CliqueShell
from gateway.control.manager import Manager
from gateway.core import RETRY
from gateway.events import FromMeter
from gateway.store.changes import Change, Setting
from harness.network.waiting import become, cancelled, free_port
from harness.surroundings.gateway import START, World, commands, registered

SIGNED = SignedList(text="1790000000 r002:2", signature="00" * 70)
METERS = {"r001": [1, 2, 3], "r003": [4, 5, 6]}


def asked(sent: Iterable[Publish]) -> list[tuple[str, int]]:
    """Return the microgrid and meter of each message."""
    return [(parts[1], int(parts[2])) for message in sent if (parts := message.topic.split("/"))]


def a_round(offer: RevokedOffer, at: float) -> list[tuple[str, int]]:
    return [meter for step in range(5) for meter in asked(offer.due(METERS, at + step / 10))]


def test_every_meter_of_each_microgrid_gets_it_a_few_at_once_until_it_answers() -> None:
    offer = RevokedOffer("r001", SIGNED)
    first = offer.due(METERS, 10.0)
    assert len(first) == AT_ONCE
    assert len(offer.due(METERS, 10.1)) == 1
    command = unpack_json(Command, first[0].payload)
    assert (command.id, command.cmd, command.epoch) == ("r001-revoked-1790000000", "revoked", (0, 0))
    assert (command.revoked, command.signature) == (SIGNED.text, SIGNED.signature)
    assert a_round(offer, 20) == []
    offer.answered |= {1: "done", 2: "done", 4: "done", 6: "unsupported"}
    assert offer.view() == {"revoked": {"list": SIGNED.text, "answers": {"done": 3, "unsupported": 1}}}
    assert a_round(offer, 10 + AGAIN_S) == [("r001", 3), ("r003", 5)]
    assert len(a_round(offer, 10 + FORGET_S)) == 6, "a meter may have been exchanged"


def test_a_meter_that_comes_between_two_rounds_gets_it_at_once() -> None:
    offer = RevokedOffer("r001", SIGNED)
    a_round(offer, 10)
    for second in (20, 20.1, 49):
        offer.heard("r003", 5, second)
    assert a_round(offer, 49) == [("r003", 5)]
    offer.heard("r003", 5, 50)
    assert a_round(offer, 50) == [("r003", 5)], "it did not answer"
    offer.answered[5] = "refused"
    offer.heard("r003", 5, 80)
    assert a_round(offer, 80) == []


def test_without_a_list_nothing_is_sent() -> None:
    offer = RevokedOffer("r001", None)
    offer.heard("r001", 1, 0)
    assert a_round(offer, 0) == []
    assert offer.view() == {}


def clique_of(folder: Path) -> CliqueShell:
    """Return the clique of r001, which stands by in r003, with the list in its folder."""
    others = (CliquePeer(name="r003", rank=3, address="127.0.0.1:9", key="00" * 32),)
    orders = {"r001": ("r001", "r003"), "r003": ("r003", "r001")}
    save_cliques(
        folder / "clique.json",
        CliqueFile(own="r001", rank=1, groups=(Clique(members=("r001", "r003"), orders=orders, others=others),)),
    )
    for name, meters in METERS.items():
        path = folder / ("registry.json" if name == "r001" else f"registry-{name}.json")
        save_registry(
            path,
            Registry(
                microgrid=name,
                controller=RegisteredController(number=1, address="10.0.0.1"),
                meters=tuple(map(registered, meters)),
            ),
        )
    settings = GatewaySettings(
        microgrid="r001",
        registry=folder / "registry.json",
        clique=folder / "clique.json",
        beats=f"127.0.0.1:{free_port()}",
    )
    made = CliqueShell.load(settings, SimpleNamespace(setting=lambda _: None), Registries(settings))
    assert made is not None
    return made


def ignore(*_: object) -> None:
    """Do nothing."""


def hooks_of(**some: Any) -> Hooks:
    """Return hooks that do nothing but what ``some`` say."""

    async def kept(_: object) -> None:
        return None

    store = SimpleNamespace(opening=False, store=object())
    others: dict[str, Any] = {
        "store": lambda: store,
        "keep": kept,
        "begin": ignore,
        "resume": ignore,
        "is_connected": lambda: True,
        "states": lambda name: States(microgrid=name, now=0, states={}),
        "take_states": ignore,
        "commits": lambda _: True,
        "put_s": lambda _: 60,
    }
    return Hooks(**{"publish": ignore, **others, **some})


def answer(microgrid: str, meter: int) -> FromMeter:
    outcome = Outcome(id="x", cmd="revoked", result="refused", time=0, bits=1, push=True)
    return FromMeter(f"cw1/{microgrid}/{meter}/u/out", outcome.pack())


def test_it_is_sent_also_where_another_one_manages_and_an_answer_of_any_kind_ends_it(tmp_path: Path) -> None:
    (tmp_path / REVOKED_FILE).write_text(SIGNED.model_dump_json())
    clique, sent = clique_of(tmp_path), list[Publish]()
    hooks = hooks_of(publish=sent.append)

    async def play() -> None:
        running = asyncio.create_task(clique.run(hooks))
        await become(lambda: len({meter for _, meter in asked(lists(sent))}) == 6)
        await cancelled(running)
        clique.leave()

    asyncio.run(play())
    assert not clique.members["r003"].commands
    for meter in METERS["r003"]:
        clique.heard(answer("r003", meter))
    assert clique.view()["revoked"] == {"list": SIGNED.text, "answers": {"refused": 3}}


def lists(sent: Iterable[Publish]) -> list[Publish]:
    return [message for message in sent if unpack_json(Command, message.payload).cmd == "revoked"]


def test_a_damaged_list_is_named_at_the_start(tmp_path: Path) -> None:
    (tmp_path / REVOKED_FILE).write_text("{")
    with pytest.raises(ConfigError, match=REVOKED_FILE):
        clique_of(tmp_path)


EPOCH = (9, 1)
METER: MeterId = 4
COMMAND = Publish(meter_down("r003", METER, COMMANDS), b"")


def grant(clique: CliqueShell) -> None:
    """Let the clique have r003 from now on, as after the utility's grant."""
    clique._perform(clique._group_of["r003"], clique.members["r003"]._hold(EPOCH, "granted"))


@pytest.mark.parametrize("error", [None, SqliteError("disk I/O error"), SqliteError()])
def test_a_microgrid_is_commanded_after_its_epoch_is_durable_and_not_if_the_store_fails(
    tmp_path: Path, error: SqliteError | None
) -> None:
    clique = clique_of(tmp_path)
    began: list[str] = []
    asked: list[list[Change]] = []

    async def play() -> None:
        answers = asyncio.Event()

        async def keep(changes: list[Change]) -> SqliteError | None:
            if len(changes) > 1:
                return None  # those of the start
            asked.append(changes)
            await answers.wait()
            return error

        running = asyncio.create_task(clique.run(hooks_of(keep=keep, begin=began.append)))
        await become(lambda: clique._epochs.are_kept)
        clique.members["r003"].now = clique._now()
        grant(clique)
        await become(lambda: asked)
        assert began == []
        assert not clique.permits(COMMAND), "a disk that hangs must not let it command"
        answers.set()
        await become(lambda: clique._keeping is None)
        await cancelled(running)
        clique.leave()

    asyncio.run(play())
    assert asked == [[Setting("clique:r003", EpochPair(EPOCH, EPOCH).text())]]
    member = clique.members["r003"]
    if error is None:
        assert began == ["r003"]
        assert member.commands
        assert clique.permits(COMMAND)
    else:
        assert began == []
        assert member.kept.highest < EPOCH
        assert not clique.permits(COMMAND)


def beaten(folder: Path, *, r003_is_known_to_manage: bool) -> float:
    """Return in how many seconds a controller that beat to the utility just now makes its next step after the answer.

    Before the answer a step is due in 0.2 s, when the sign of r003, which the utility's answers bring, would be late.
    """
    clique, now = clique_of(folder), 1000.0
    clique._now = lambda: now  # type: ignore[method-assign]
    for member in clique.members.values():
        member.now = now
    clique.members["r001"]._hold(EPOCH, "granted")
    clique.members["r003"].kept = EpochPair((0, 1), (5, 3) if r003_is_known_to_manage else (0, 0))
    lines = clique._groups[0].signs.lines
    for line in lines.values():
        line.since, line.heard = now - 100, now - BEAT_S
    lines[UTILITY].beat = now
    clique._groups[0].signs.wake(now)
    clique._latest = clique._until = now + BEAT_S
    clique._put_off(now)
    assert clique._until == pytest.approx(now + (LATE_S if r003_is_known_to_manage else STEP_S), abs=0.2)
    clique._now = lambda: now + 0.1  # type: ignore[method-assign]
    clique._beat(0, UTILITY, Beat(is_answer=True, hears=frozenset({"r003"})))
    return clique._until - now


def test_the_answer_to_a_beat_puts_the_next_step_off_until_the_next_beat(tmp_path: Path) -> None:
    assert beaten(tmp_path, r003_is_known_to_manage=True) == pytest.approx(BEAT_S)


def test_beats_do_not_put_off_the_steps_of_a_controller_in_doubt(tmp_path: Path) -> None:
    assert beaten(tmp_path, r003_is_known_to_manage=False) <= STEP_S


NOW = Now(START, Trust.NETWORK)


def successor() -> Member:
    """Return the part of r002 in the microgrid of r001."""
    post = Post(microgrid="r001", own="r002", order=("r001", "r002"), ranks={"r001": 1, "r002": 2}, meters=4)
    return Member(post, EpochPair((0, 2), (0, 0)), Signs(("r001", UTILITY), 0.0), 0.0, 1)


def test_a_grant_initializes_also_the_meters_that_named_the_manager_before(world: World) -> None:
    member = successor()
    manager = Manager(world.settings, "r001", world.store, world.meters, member)
    for meter in (1, 2):
        manager.epochs.reported(meter, (1, 1))
    manager.epochs.reported(3, (9, 3))
    member.kept, member.sure = EpochPair((3, 2), (3, 2)), True
    sent = [effect for effect in manager.begin(NOW) if isinstance(effect, Publish)]
    assert [(effect.topic.split("/")[2], one.cmd) for effect in sent for one in commands([effect])] == [
        ("1", "initialize"),
        ("2", "initialize"),
        ("4", "initialize"),
    ], "meter 3 has a newer manager"


def test_a_meter_that_was_not_connected_is_initialized_soon_after_it_is_heard(world: World) -> None:
    assert initialized(world) == {"1", "2", "3", "4"}
    world.now += 20
    world.level(3, 80)
    assert initialized(world) == {"3"}
    world.level(3, 81)
    assert initialized(world) == set(), "it is asked once, and again after a minute"


def initialized(world: World) -> set[str]:
    """Return the meters that one step initializes."""
    sent = world.tick(RETRY)
    return {one.topic.split("/")[2] for one in sent for command in commands([one]) if command.cmd == "initialize"}
