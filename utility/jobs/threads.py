"""Where the functions of a job run."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Threads:
    """The threads of a service's jobs."""

    read: Callable[..., Awaitable[Any]]  # runs a function on the jobs' thread, which reads and computes
    write: Callable[..., Awaitable[Any]]  # runs a function on the thread for writes


async def _call(work: Callable[..., _T], *arguments: object) -> _T:
    return work(*arguments)


HERE = Threads(read=_call, write=_call)  # a job that a command runs has one thread
