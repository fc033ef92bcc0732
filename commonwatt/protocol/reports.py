"""The report of a controller in an outcome: text, compressed, in base 85."""

import base64

import zstandard

from commonwatt.model.exceptions import ProtocolError
from commonwatt.protocol.meter_messages import Refusal

MOST_TEXT_BYTES = 1 << 24  # most bytes of a report's text


def compressed(text: str) -> bytes:
    """Return a report's text, compressed."""
    return zstandard.ZstdCompressor(level=12).compress(text.encode())


def report_of(packed: bytes) -> str:
    """Return a compressed report as it stands in an outcome."""
    return base64.b85encode(packed).decode()


def read_report(report: str) -> str:
    """Return the text of a report.

    Raises:
        ProtocolError: It is none.
    """
    try:
        packed = base64.b85decode(report)
        # ``max_output_size`` bounds no frame that states its own size.
        if not 0 <= zstandard.frame_content_size(packed) <= MOST_TEXT_BYTES:
            raise ValueError("it is too large")
        text = zstandard.ZstdDecompressor().decompress(packed)
    except (ValueError, zstandard.ZstdError) as error:
        raise ProtocolError(Refusal.MALFORMED, f"report: {error}") from error
    return text.decode(errors="replace")
