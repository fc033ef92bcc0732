"""Errors, one tree. The class says which party erred and whether trying again helps.

CommonwattError
├── ConfigError      a file is wrong; correct the file, then start again
├── ProtocolError    the other side sent what the protocol forbids; the same bytes will fail again
└── StoreError       this machine's store failed or is damaged; an operator must look
"""


class CommonwattError(Exception):
    """Whatever Commonwatt raises on purpose; its text says what to do next."""


class ConfigError(CommonwattError):
    """A file a person wrote can't be used; names file, line, key and what is allowed."""


class ProtocolError(CommonwattError):
    """A message breaks the protocol; ``code`` is the number docs/protocol.md gives the reason."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class StoreError(CommonwattError):
    """A store can't be opened, or failed its check."""
