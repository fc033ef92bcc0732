"""The program that sends mails is killed fifty times: no mail goes twice, and each has an end that a clerk sees."""

import asyncio
import multiprocessing
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from harness.network.waiting import eventually
from tests.unit.utility.mail.test_mail import Post
from tests.unit.utility.mail.test_mail import post as _post
from utility.customers.people import Contact
from utility.customers.store import office_key, set_contact
from utility.database.database import Database, open_database
from utility.jobs.plans import HERE, Period
from utility.jobs.store import Turn
from utility.mail.jobs import send_mails
from utility.mail.message import CONFIRM, MailState, proof
from utility.mail.store import add_mails
from utility.mail.tables import mail
from utility.settings import MailSettings, OfficeSettings, UtilitySettings

pytestmark = pytest.mark.real
post = _post

KILLS, MAILS, NOW = 50, 1000, 1_800_005_000


def turn(database: Database, settings: UtilitySettings) -> None:
    period = Period(start=NOW, end=NOW + 60, name="")
    asyncio.run(send_mails(settings, database, HERE, Turn(job="mail", period=period, attempt=1, now=NOW)))


def send(url: str, settings: UtilitySettings) -> None:
    """Send for ever, as a process."""
    database = open_database(url, create=False)
    while True:
        turn(database, settings)


def is_at_work(post: Post, count: int, is_alive: Callable[[], bool]) -> bool:
    """Return whether the server took so many mails, or the process has ended."""
    return len(post.took) >= count or not is_alive()


def states(database: Database) -> Counter[str]:
    with database.reads.begin() as connection:
        return Counter(connection.execute(select(mail.c.state)).scalars())


def test_no_mail_goes_twice_and_none_is_lost_silently(tmp_path: Path, post: Post) -> None:
    own = MailSettings(host="127.0.0.1", port=post.port, sender="office@town.example", plain_text=True)
    settings = UtilitySettings(office=OfficeSettings(key=tmp_path / "key", name="Town", mail=own))
    url = f"sqlite:///{tmp_path}/utility.db"
    database = open_database(url, create=True)
    key = database.read(office_key, settings.office)
    asked = []
    with database.writes.begin() as connection:
        for number in range(1, MAILS + 1):
            address = f"m{number}@home.example"
            set_contact(connection, number, 0, Contact(name=f"Ana {number}", mail=address), key)
            asked.append((number, proof(key, "digest", number, address)))
        add_mails(connection, CONFIRM, asked, NOW, "https://town.example")
    servers, chance = multiprocessing.get_context("forkserver"), random.Random(1)
    servers.set_forkserver_preload([__name__])
    for _ in range(KILLS):
        process = servers.Process(target=send, args=(url, settings))
        before = len(post.took)
        process.start()
        # The number of mails after which it dies, and where within the next one, differ from kill to kill.
        eventually(partial(is_at_work, post, before + chance.randrange(1, 10), process.is_alive))
        process.kill()
        process.join()
    while states(database)[MailState.QUEUED]:
        turn(database, settings)
    found, got = states(database), Counter(one["To"] for one in post.took)
    assert max(got.values()) == 1
    assert found[MailState.SENT] + found[MailState.UNKNOWN] == MAILS
    assert found[MailState.SENT] <= len(got) <= MAILS
    assert found[MailState.UNKNOWN] <= KILLS
    database.close()
