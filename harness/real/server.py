"""A real server of others, as a process of its own on loopback."""

import subprocess
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.network.waiting import eventually, free_port


class Server(ABC):
    """A server that runs while it is entered, and answers when it is.

    Args:
        folder: The folder of its data and its log; made if it is missing.
        address: HOST:PORT; by default a free port.
    """

    _command: list[str]
    _process: subprocess.Popen[bytes]

    def __init__(self, folder: Path, address: str | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.address = address or f"127.0.0.1:{free_port()}"
        self._log = folder / "log"

    @abstractmethod
    def _ask_something(self) -> None:
        """Ask what it answers once it runs."""

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            self._ask_something()
        except OSError:
            return False
        return True

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        eventually(self._answers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
