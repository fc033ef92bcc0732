"""The stream that tells pages what has changed: its events, its bounds, its end."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from utility.webkit.console.stream import MOST, MOST_OF_PERSON, Streams


class Page:
    """A browser's request, which stays until it leaves."""

    left = False

    async def is_disconnected(self) -> bool:
        return self.left


async def _next(events: AsyncIterator[str]) -> str:
    return await asyncio.wait_for(anext(events), 60)


def test_a_page_hears_of_what_it_shows_alone() -> None:
    async def heard() -> None:
        state = {"town": "1", "alarms": "1"}
        streams = Streams(marks={name: lambda name=name: state[name] for name in state})  # type: ignore[misc]
        assert streams.take("eve")
        page: Any = Page()
        events = streams.events(page, "eve", ["alarms", "weather"])
        assert (await _next(events)).startswith("retry:")
        state["town"], waiting = "2", asyncio.ensure_future(_next(events))
        await asyncio.sleep(0)
        state["alarms"] = "2"
        assert await waiting == "event: alarms\ndata: changed\n\n"
        page.left = True
        assert [each async for each in events] == [], "the stream ends when its browser leaves"
        assert all(streams.take("eve") for _ in range(MOST_OF_PERSON)), "and makes room for the next"

    asyncio.run(heard())


def test_streams_are_bounded_for_one_person_and_for_all() -> None:
    streams = Streams()
    assert [streams.take("eve") for _ in range(MOST_OF_PERSON + 1)] == [True] * MOST_OF_PERSON + [False]
    others = [streams.take(f"p{n}") for n in range(MOST)]
    assert others.count(True) == MOST - MOST_OF_PERSON
    assert not streams.take("late")


def test_a_stream_ends_by_itself_so_that_its_session_is_asked_for_again() -> None:
    async def all_of() -> list[str]:
        streams = Streams(lasts_s=0)
        streams.take("eve")
        page: Any = Page()
        return [each async for each in streams.events(page, "eve", ["town"])]

    assert len(asyncio.run(all_of())) == 1
