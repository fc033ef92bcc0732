"""The log of a service: lines without secrets, of which the process keeps the last ones for a report."""

import logging
import re
import sys
from collections import deque
from functools import cache

KEPT_LINES = 200  # most lines kept in memory
KEPT_BYTES = 2_000  # most characters of a line that are kept

# Keys of a secret. People choose the first kind, perhaps with spaces; the last one is a key only before a sign.
_CHOSEN = r"(?:[\w-]*(?:pass(?:word|wd|phrase|wort)|kennwort|contraseña)|(?:[\w-]*[_-])?(?:pass|pwd?|psk))"
_RANDOM = r"[\w-]*(?:token|secret|bearer|credentials?|(?:api|private|access)[_-]?key)"
_WEAK = r"(?:[\w-]*[_-])?(?:key|auth|sig|otp|session[_-]?id)"
# Words and files that follow a key and are no value of it.
_NO_VALUE = (
    r"(?!\[removed|[\"']?[\w./-]+\.(?:json|pem|toml)\b|(?:again|alone|and|are|at|by|can|changed|does|enough|file|first"
    r"|for|from|has|hash|in|is|must|names|needed|needs|no|not|now|of|on|or|refused|required|that|the|there|to|was|were"
    r"|which|will|with|without|wrong)\b)"
)
_SIGN = rf"[\"'\\]*\s{{0,9}}(?:[=:]+>?|->|%3D|>)\s{{0,9}}+{_NO_VALUE}"
_IS = rf"\s(?:(?:of|for)\s\S+\s)?(?:is|was|ist|lautet|es)\s{_NO_VALUE}"
_QUOTED = r"""\\+".*?\\+"|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'"""
_WORD = rf"(?:{_QUOTED}|[^\s,;}}\])&<]+)"
_LINE = rf"(?:{_QUOTED}|[^\n;}}\])&<]+?(?=,?\s{{1,9}}[\w-]{{1,40}}\s?[=:]|[\n;}}\])&<]|\Z))"

_SECRETS = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    # A password or token in a URL, such as postgresql://user:password@host.
    re.compile(r"(?<=://)(?:[^\s/:@]{0,200}:[^\s@]{1,200}|[^\s/@]{1,200})(?=@)"),
    # The value after such a key: password = "...", token: ..., Authorization: Bearer ...
    re.compile(rf"(?i)((?:authorization|cookie)[\"']?\s?[=:]\s?)(?!\[removed)(?:{_QUOTED}|[^\n]+)"),
    re.compile(rf"(?i)(?<![\w-])({_CHOSEN}(?:{_SIGN}|{_IS})){_LINE}"),
    re.compile(
        rf"(?i)(?<![\w-])((?:{_RANDOM}{_SIGN}|{_WEAK}(?:=|\s?[=:]\s(?=[^\s/]{{6}})(?=\S*\d)(?!\d)){_NO_VALUE})){_WORD}"
    ),
    # Without a sign: --password ..., password ..., user ... pass ..., a token of letters and digits.
    re.compile(rf"(?i)(?<!\S)(--?(?:{_CHOSEN}|{_RANDOM}|{_WEAK})\s|-P\s|-u\s[^\s:]+:)(?!\[removed)(?:{_QUOTED}|\S+)"),
    re.compile(
        rf"(?i)(?<![\w-])((?:[\w-]*pass(?:word|wd|phrase|wort)|pwd?|user\s\S+\spass)\s)(?![=:-]){_NO_VALUE}{_WORD}"
    ),
    re.compile(
        r"(?i)\b((?:Bearer|Basic|token|secret|psk|key|cookie|auth)\s+(?:is\s|was\s)?)(?=\w*\d)(?=\w*[a-z])[\w+/=.~-]{6,}"
    ),
    # A line of a key of which the first line is missing.
    re.compile(r"(?<![A-Za-z0-9+/=])(?=[a-z+/]*[A-Z0-9])[A-Za-z0-9+/]{60,}={0,2}"),
    # A random text of at least 128 bits, in base 64 or hexadecimal; hashes go with them. Words have fewer capitals.
    re.compile(r"(?<![\w/+-])(?=[\w+-]*[0-9])(?=[\w+-]*[A-Za-z])[A-Za-z0-9_+-]{32,}={0,2}(?![\w/+-])"),
    re.compile(r"(?<![\w/+.-])(?=(?:[a-z0-9_+/-]*[A-Z]+[a-z0-9_+/-]){6})[\w+/-]{32,}={0,2}(?![\w/+.-])"),
    re.compile(r"(?<![\w+/=.-])[A-Za-z0-9+/]{22,}={1,2}(?![\w=])|\beyJ[\w-]+\.[\w.-]+|\$(?:argon2\w*|\w{1,2})\$\S+"),
)
_EIGHT_WORDS = re.compile(r"(?i)(?<![a-z])[a-z]{3,8}(?:[^a-z]{1,4}[a-z]{3,8}){7,}(?![a-z])")
_MARK = "[removed]"


def without_secrets(text: str) -> str:
    """Return a text without tokens, passwords, private keys, and the words of labels."""
    for pattern in _SECRETS:
        text = pattern.sub(lambda found: (found[1] if found.re.groups else "") + _MARK, text)
    return _EIGHT_WORDS.sub(_without_labels, text)


def _without_labels(found: re.Match[str]) -> str:
    parts = re.split("([^A-Za-z]+)", found[0])
    known = "".join("x" if word.lower() in _label_words() else "-" for word in parts[::2])
    for label in reversed(list(re.finditer("x{8,}", known))):
        parts[2 * label.start() : 2 * label.end() - 1] = [_MARK]
    return "".join(parts)


@cache
def _label_words() -> frozenset[str]:
    from mnemonic import Mnemonic  # With the first line of eight short words.

    return frozenset(Mnemonic("english").wordlist)


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
