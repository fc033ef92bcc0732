"""Times and counts in words."""

from datetime import UTC, datetime


def moment(time: int) -> str:
    """Return a time with its date, UTC."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def near(time: int, other: int) -> str:
    """Return a time of day, with its date if it differs from the other time's date."""
    text = moment(time)
    return text[11:19] if text[:10] == moment(other)[:10] else text[:19]


def counted(number: int, what: str) -> str:
    """Return a number with its noun, such as ``1 slot`` or ``2 slots``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """Return a text without characters that would end a line or steer a terminal; they are escaped."""
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)


def duration(seconds: int) -> str:
    """Return a time span in one unit, such as ``12 s`` or ``3 hours``."""
    if seconds < 100:
        return f"{max(0, seconds)} s"
    if seconds < 100 * 60:
        return f"{seconds // 60} min"
    if seconds < 48 * 3600:
        return counted(seconds // 3600, "hour")
    return counted(seconds // 86_400, "day")


def spaced(code: str, size: int = 8) -> str:
    """Return a code in groups of so many characters, for people who compare it."""
    return " ".join(code[at : at + size] for at in range(0, len(code), size))
