"""A gateway sends the list of revoked controllers to every meter until it answers, also as a standby (R5)."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.effects import Publish
from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol.clique_messages import States
from commonwatt.protocol.commands import Command, Outcome
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.town.clique_file import CliqueFile, Group, Other, save_cliques
from commonwatt.town.registry import Controller, Registry, save_registry
from commonwatt.town.revoked_file import REVOKED_FILE, SignedList
from gateway.clique.clique import Clique
from gateway.clique.hooks import Hooks
from gateway.clique.revoked import AGAIN_S, AT_ONCE, FORGET_S, RevokedOffer
from gateway.events import FromMeter
from gateway.registries import Registries
from harness.network.waiting import become, cancelled, free_port
from harness.surroundings.gateway import registered

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


def clique_of(folder: Path) -> Clique:
    """Return the clique of r001, which stands by in r003, with the list in its folder."""
    others = (Other(name="r003", rank=3, address="127.0.0.1:9", key="00" * 32),)
    orders = {"r001": ("r001", "r003"), "r003": ("r003", "r001")}
    save_cliques(
        folder / "clique.json",
        CliqueFile(own="r001", rank=1, groups=(Group(members=("r001", "r003"), orders=orders, others=others),)),
    )
    for name, meters in METERS.items():
        path = folder / ("registry.json" if name == "r001" else f"registry-{name}.json")
        save_registry(
            path,
            Registry(
                microgrid=name,
                controller=Controller(number=1, address="10.0.0.1"),
                meters=tuple(map(registered, meters)),
            ),
        )
    settings = GatewaySettings(
        microgrid="r001",
        registry=folder / "registry.json",
        clique=folder / "clique.json",
        beats=f"127.0.0.1:{free_port()}",
    )
    made = Clique.load(settings, SimpleNamespace(setting=lambda _: None), Registries(settings))
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
