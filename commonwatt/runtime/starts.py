"""Starts of a service: it starts again within 0.2 s of an end, and waits when it ended often (docs/controllers.md, R9).

systemd starts it again at once, since another controller takes over within seconds. A service that can't start, such as
one with a wrong settings file, must not take the machine's time from the others.
"""

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

WITHIN_S, OFTEN = 60.0, 5  # so many starts within so many seconds are often
WAIT_S = 5.0  # seconds that it waits then

log = logging.getLogger(__name__)


def wait_if_often(path: Path, sleep: Callable[[float], object] = time.sleep) -> None:
    """Note this start, and wait if there were ``OFTEN`` of the last minute; only where systemd started it.

    Args:
        path: The service's settings file; the file of starts lies beside it.
    """
    if "INVOCATION_ID" not in os.environ:
        return
    kept = path.with_suffix(".starts")
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    try:
        starts = [float(start) for start in json.loads(kept.read_text())]
    except (OSError, ValueError, TypeError):  # the first start, or a file cut off in a power failure
        starts = []
    starts = [*(start for start in starts if 0 <= now - start <= WITHIN_S), now][-OFTEN:]
    try:
        kept.write_text(json.dumps(starts))
    except OSError as error:
        log.warning("%s: starts are not counted: %s", kept, error)
        starts = [now] * OFTEN
    if len(starts) == OFTEN:
        sleep(WAIT_S)
