"""What is on its way to a subscriber: in order, so many at a time, and bounded."""

import asyncio

from broker.embedded.subscriber_queue import MAX_BYTES, MAX_MESSAGES, MAX_SENDING, SubscriberQueue


class Subscriber:
    """Takes messages, and is done with one only on command."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.done: list[asyncio.Future[None]] = []
        self.queue: SubscriberQueue[int] = SubscriberQueue(self._send)

    async def _send(self, message: int) -> None:
        self.taken.append(message)
        waiting = asyncio.get_running_loop().create_future()
        self.done.append(waiting)
        await waiting


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_messages_go_in_their_order_so_many_at_a_time() -> None:
    async def run() -> None:
        subscriber = Subscriber()
        assert all(subscriber.queue.add(n, 1) for n in range(MAX_SENDING + 2))
        await turns()
        assert subscriber.taken == list(range(MAX_SENDING))
        subscriber.done[5].set_result(None)
        await turns()
        assert subscriber.taken == list(range(MAX_SENDING + 1))
        assert len(subscriber.queue) == MAX_SENDING + 1
        subscriber.queue.close()

    asyncio.run(run())


def test_beyond_its_bounds_nothing_is_taken_until_something_is_done() -> None:
    async def run() -> None:
        many, big = Subscriber(), Subscriber()
        assert all(many.queue.add(n, 0) for n in range(MAX_MESSAGES))
        assert not many.queue.add(0, 0)
        assert big.queue.add(0, MAX_BYTES - 10)
        assert not big.queue.add(1, 11)
        assert big.queue.add(2, 10)
        await turns()
        for subscriber in (many, big):
            subscriber.done[0].set_result(None)
        await turns()
        assert many.queue.add(0, 0)
        assert big.queue.add(3, MAX_BYTES - 10)
        assert (many.queue.close(), big.queue.close()) == (MAX_MESSAGES, 2)

    asyncio.run(run())


def test_of_a_subscriber_that_is_gone_nothing_is_left() -> None:
    async def run() -> None:
        subscriber = Subscriber()
        for n in range(MAX_SENDING + 100):
            subscriber.queue.add(n, 1)
        await turns()
        assert subscriber.queue.close() == MAX_SENDING + 100
        await turns()
        assert len(subscriber.queue) == 0
        assert len(subscriber.taken) == MAX_SENDING
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())
