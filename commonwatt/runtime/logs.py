"""The log of a service: lines without secrets, of which the process keeps the last ones for a report."""

import logging
import re
import sys
from collections import deque

KEPT_LINES = 200  # most lines kept in memory
KEPT_BYTES = 2_000  # most characters of a line that are kept

_SECRETS = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    # A password or token in a URL, such as postgresql://user:password@host.
    re.compile(r"(?<=://)(?:[^\s/:@]*:[^\s@]+|[^\s/@]+)(?=@)"),
    # The value after such a word: password = "...", token: ..., Authorization: Bearer ...
    re.compile(
        r"(?i)(?<![\w-])((?:\w*[_-])?(?:password|passwd|passphrase|psk|token|secret|bearer|authorization|api[_-]?key)"
        r"[\"']?\s*(?:[=:]|\bis\b)\s*)(?!\[removed)(?:Bearer\s+|Basic\s+)?(?:\"[^\"]*\"|'[^']*'|[^\s,;}\])]+)"
    ),
    re.compile(r"(?i)\b((?:Bearer|Basic)\s+)[\w+/=.~-]{16,}"),
    # A line of a key of which the first line is missing.
    re.compile(r"(?<![A-Za-z0-9+/=])(?=[a-z+/]*[A-Z0-9])[A-Za-z0-9+/]{60,}={0,2}"),
    # A random text of at least 128 bits, in base 64 or hexadecimal; hashes go with them.
    re.compile(r"(?<![\w/+-])(?=[\w+-]*[0-9])(?=[\w+-]*[A-Za-z])[A-Za-z0-9_+-]{32,}={0,2}(?![\w/+-])"),
)
_MARK = "[removed]"


def without_secrets(text: str) -> str:
    """Return a text without tokens, passwords and private keys."""
    for pattern in _SECRETS:
        text = pattern.sub(lambda found: (found[1] if found.re.groups else "") + _MARK, text)
    return text


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


class LastLines(logging.Handler):
    """Keeps the last lines of the log in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)  # the last ones, the oldest first

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(self.format(record)[:KEPT_BYTES])


LAST_LINES = LastLines()
"""Those of the process."""


def start_log() -> None:
    """Begin to log to the standard error output, without secrets."""
    handlers = (logging.StreamHandler(sys.stderr), LAST_LINES)
    for handler in handlers:
        handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=handlers)
