"""Run PostgreSQL's own programs without showing a secret, and report their messages."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile

from sqlalchemy.engine import URL

from commonwatt.model.exceptions import ConfigError, StoreError

_SECRETS = ("sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")
"""Parameters of libpq that programs take only from their arguments."""


def address(url: URL) -> str:
    """Return the URL as libpq's parameters, without the password: other users see a program's arguments.

    Raises:
        ConfigError: The URL has another secret, which can only be passed as an argument.
    """
    words = {**url.translate_connect_args(username="user", database="dbname"), **url.query}
    if secret := next((word for word in _SECRETS if word in words), None):
        raise ConfigError(
            f"database: all users of this machine could see {secret} while pg_dump or pg_restore runs; remove it "
            "from the URL, for example by a key without a password that only its owner may read"
        )
    words.pop("password", None)
    texts = {name: ",".join(value) if isinstance(value, tuple) else str(value) for name, value in words.items()}
    return " ".join(f"{name}='{_quoted(text)}'" for name, text in texts.items())


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def run(program: str, url: URL, *arguments: str) -> str:
    """Run one of PostgreSQL's programs; return its output.

    Raises:
        ConfigError: The program is not installed, or too old.
        StoreError: The program failed.
    """
    command, environment = _prepared(program, url, arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise _failed(program, url, done.stderr)
    return done.stdout


def script(url: URL, source: Path, entries: Iterable[str]) -> Iterator[bytes]:
    """Yield the lines of pg_restore's script of some entries of an archive, in their order.

    Raises:
        ConfigError: The program is not installed, or too old.
        StoreError: The program failed, for example at a truncated archive.
    """
    # The list is passed as the program's input: it may be long.
    command, environment = _prepared("pg_restore", url, ("--file=-", "--use-list=/dev/stdin", str(source)))
    with TemporaryFile() as listed, TemporaryFile("w+", errors="replace") as said:
        listed.write("".join(f"{entry};\n" for entry in entries).encode())
        listed.seek(0)
        with subprocess.Popen(command, stdin=listed, stdout=subprocess.PIPE, stderr=said, env=environment) as process:
            try:
                yield from process.stdout or ()
            except BaseException:
                # The rest is not needed.
                process.kill()
                raise
        if process.returncode:
            said.seek(0)
            raise _failed("pg_restore", url, said.read())


def _prepared(program: str, url: URL, arguments: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    found = shutil.which(program)
    if found is None:
        raise ConfigError(f"{program} is not installed; it comes with: apt-get install postgresql-client")
    password = _password(url)
    environment = {**os.environ, "LC_ALL": "C", **({"PGPASSWORD": password} if password else {})}
    return [found, *(() if program == "pg_restore" else ("--no-password",)), *arguments], environment


def _failed(program: str, url: URL, stderr: str) -> Exception:
    said = "; ".join(stderr.split("\n")[:3]).strip("; ")
    if "version mismatch" in said or "unsupported version" in said:
        return ConfigError(f"{program} is older than the server or the backup: {said}; install a newer client")
    password = _password(url)
    return StoreError(f"{program} failed: {said.replace(password, '***') if password else said}")


def _password(url: URL) -> str:
    return str(url.password or url.query.get("password") or "")
