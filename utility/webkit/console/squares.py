"""QR codes of texts, such as of links that a person takes to another device."""

QUIET = 4  # squares of quiet zone on each side, by ISO/IEC 18004


def squares_of(text: str) -> tuple[int, str]:
    """Return the squares of a side, with the quiet zone, and the path of the dark squares, for SVG."""
    import segno  # Loaded for the first code that is drawn.

    matrix = segno.make(text, micro=False, error="m").matrix
    path = [
        f"M{x + QUIET} {y + QUIET}h1v1h-1z" for y, row in enumerate(matrix) for x, is_dark in enumerate(row) if is_dark
    ]
    return len(matrix) + 2 * QUIET, "".join(path)
