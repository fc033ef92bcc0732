"""The tree of errors. The class shows which party erred and whether a retry helps.

CommonwattError
├── ConfigError      a file is wrong; correct the file, then start again
│   └── SettingError one setting of a checked file, found wrong by the service that uses it
├── ProtocolError    the other side sent what the protocol forbids; the same bytes will fail again
└── StoreError       this machine's store failed or is damaged; an operator must look
"""


def text_of(error: BaseException) -> str:
    """Return the text of an error, which is never empty: errors of others may have none, such as ``TimeoutError()``."""
    return str(error).strip() or type(error).__name__


class CommonwattError(Exception):
    """Base of all errors that Commonwatt raises on purpose; the text says how to correct the error."""

    def __str__(self) -> str:
        return super().__str__() or type(self).__name__


class ConfigError(CommonwattError):
    """What a person wrote can't be used; names file, line, key, or field, and what is allowed.

    ``text`` is for every reader. The error's own words also have the command that helps next, for a terminal.
    """

    def __init__(self, text: str, command: str = "") -> None:
        super().__init__(f"{text}; {command}" if command else text)
        self.text = text


class SettingError(ConfigError):
    """A setting can't be used; ``keys`` are its table and key, for the line in the file."""

    def __init__(self, keys: tuple[str | int, ...], text: str) -> None:
        super().__init__(text)
        self.keys = keys


class ProtocolError(CommonwattError):
    """A message violates the protocol; ``code`` is the reason's number in docs/protocol.md."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class StoreError(CommonwattError):
    """A store can't be opened, or failed its check."""
