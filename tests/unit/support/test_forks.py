"""Tests start forked processes; what they hear of one is not about another."""

import json
import os
import socket
from threading import Thread
from unittest.mock import patch

from harness.real import forks


def test_process_with_the_number_of_one_that_ended_still_runs() -> None:
    ours, theirs = socket.socketpair()
    with (
        patch.object(os, "fork", lambda: 77),
        patch.object(os, "waitpid", side_effect=[(77, 9), (0, 0)]),
        ours,
        ours.makefile("r") as answers,
    ):
        serving = Thread(target=forks._serve, args=(theirs,))
        serving.start()

        def ask(request: dict[str, object]) -> object:
            ours.sendall(json.dumps(request).encode() + b"\n")
            return json.loads(answers.readline())

        assert ask({}) == 77
        assert ask({"poll": 77}) == -9
        assert ask({"poll": 77}) == -9, "it may be asked twice"
        assert ask({}) == 77
        assert ask({"poll": 77}) is None
        ours.shutdown(socket.SHUT_WR)
        serving.join()
