"""What every long-running part does alike: logging, signals, and errors told to a person."""

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from commonwatt.exceptions import CommonwattError, ConfigError

EXIT_FAILED = 1
"""Exit code: it could not be done."""

EXIT_USAGE = 2
"""Exit code: a file or an argument a person gave is wrong."""


@contextmanager
def errors_told() -> Iterator[None]:
    """Turn what we raise on purpose into a message and an exit code; let everything else show its traceback."""
    try:
        yield
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise SystemExit(EXIT_USAGE) from error
    except (CommonwattError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(EXIT_FAILED) from error


def run_service(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run a part until SIGTERM or SIGINT sets the event that is handed to it; it then has 5 s to end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await main(stop)

    with errors_told():
        asyncio.run(run())
