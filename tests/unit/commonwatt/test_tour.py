"""The tour of the demonstration: its commands are accepted as they are printed."""

import shlex
from pathlib import Path

from commonwatt.demo.layout import STARTS_AT
from commonwatt.demo.people import told
from commonwatt.model.time.times import parse_time
from harness.past.__main__ import of_demonstration

DAY_S = 86_400


def test_the_release_is_of_the_day_after_the_one_in_the_past_and_ends_in_the_demonstration() -> None:
    line = next(line for line in told("data", "http://console") if "research release" in line)
    words = shlex.split(line)
    start, end = (parse_time(words[words.index(option) + 1], option) for option in ("--from", "--to"))
    past = of_demonstration(Path("unused")).release
    assert past is not None
    assert start == past[1], "a period is released once"
    assert end == start + DAY_S
    assert start < STARTS_AT < end < STARTS_AT + DAY_S


def test_the_check_code_is_one_word_of_the_command_though_it_is_printed_in_groups() -> None:
    line = next(line for line in told("data", "http://console") if "check_bill.py" in line)
    words = shlex.split(line.replace("CODE", "1f83ea2f 4570e204"))
    assert words[-2:] == ["--code", "1f83ea2f 4570e204"]
