"""JSON messages: their base class and their reader (docs/protocol.md)."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, ValidationError, ValidationInfo
from pydantic.functional_validators import BeforeValidator

from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.units import parse_id
from commonwatt.protocol.meter_messages import Refusal

MAX_COMMAND_BYTES = 16_384  # most bytes of a JSON message; more gaps are requested in the next command


def _from_text(value: object, info: ValidationInfo) -> object:
    if isinstance(value, int) and info.mode == "python":
        return value
    if isinstance(value, str) and (number := parse_id(value)) is not None:
        return number
    raise ValueError("must be a decimal number below 2^64 in quotation marks")


Id64 = Annotated[int, BeforeValidator(_from_text), PlainSerializer(str), Field(ge=0, lt=2**64)]
"""A 64-bit id: decimal text in JSON, since many readers keep only 53 bits of a JSON number."""


Natural = Annotated[int, Field(ge=0, le=2**53)]
"""A count: no larger than every reader of JSON, and every database, can hold."""


Moment = Annotated[int, Field(ge=0, lt=2**32)]  # UTC epoch seconds


class MessagePart(BaseModel):
    """The common base of JSON messages and their parts."""

    # Unknown keys are ignored: a later version may add some.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, defer_build=True)


class Message(MessagePart):
    """The common base of all JSON messages."""

    v: Literal[1] = 1

    def pack(self) -> bytes:
        """Return the message as compact JSON without absent fields."""
        return self.model_dump_json(exclude_none=True).encode()


_M = TypeVar("_M", bound=Message)


def unpack_json(model: type[_M], data: bytes, most_bytes: int = MAX_COMMAND_BYTES) -> _M:
    """Read a JSON message of at most ``most_bytes``.

    Raises:
        ProtocolError: Too long, not JSON, or not of this form; the text names the first fault.
    """
    if len(data) > most_bytes:
        raise ProtocolError(Refusal.TOO_LARGE, f"{model.__name__} of {len(data)} bytes, more than {most_bytes}")
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        fault: Any = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        text = str(fault["msg"]).removeprefix("Value error, ")
        where = ": ".join(filter(None, (model.__name__, key)))
        raise ProtocolError(Refusal.MALFORMED, f"{where}: {text}") from error
