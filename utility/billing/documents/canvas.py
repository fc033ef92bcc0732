"""A document that is drawn: text in letters of any Latin language, areas of many steps, and codes of squares."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from fpdf import FPDF
from fpdf.fonts import TTFFont

from utility.billing.proof.leaf import Course

_T = TypeVar("_T")

FONT = "helvetica"
_SANS = "sans"  # has the widths of ``FONT``, and Latin, Greek and Cyrillic letters; it is in documents that need it
_SANS_FILES = Path(__file__).parent / "vendor" / "commonwatt-sans-2.1.5"


class Canvas(FPDF):
    """A document that draws an area of hundreds of steps in one piece: a method call for each would take too long."""

    all_letters = False  # whether letters that ``FONT`` lacks are drawn; else they are question marks

    def put(self, x: float, y: float, text: str) -> None:
        """Write a text from a place on, in the size that is set."""
        self._lettered(lambda there: self.text(x, y, there), text)

    def width_of(self, text: str) -> float:
        """Return the width of a text in the size that is set."""
        return self._lettered(self.get_string_width, text)

    def _lettered(self, do: Callable[[str], _T], text: str) -> _T:
        """Return what a function returns of a text, or of what is drawn of it, with a font that has its letters."""
        latin = text.encode("latin-1", "replace").decode("latin-1")
        if latin == text or not self.all_letters:
            return do(latin)
        style = self.font_style
        if _SANS + style not in self.fonts:
            self.add_font(_SANS, style, _SANS_FILES / f"commonwatt-sans-{'bold' if style else 'regular'}.ttf")
        self.set_font(_SANS, style)
        font = self.fonts[_SANS + style]
        assert isinstance(font, TTFFont)
        # fpdf2 would log the letters of a name that the font lacks.
        done = do("".join(each if ord(each) in font.cmap else "?" for each in text))
        self.set_font(FONT, style)
        return done

    def lines(self, x: float, y: float, lines: Sequence[str], size: int, *, bold: bool = False) -> float:
        """Write lines from a place down, but for empty ones; return where the next one would be."""
        self.set_font(FONT, style="B" if bold else "", size=size)
        for line in filter(None, lines):
            self.put(x, y + size, line)
            y += size * 1.2
        return y

    def area(self, heights: Course, axis: int, left: float, top: float, size: tuple[float, float]) -> None:
        """Fill the area between the axis and a step for each hour, whose size is given; equal ones make one step."""
        last = np.append(np.flatnonzero(np.diff(heights)), len(heights) - 1)
        ends = [0, *(last + 1).tolist()]
        steps = zip(ends, heights[last].tolist(), ends[1:], strict=False)
        line = "\n".join([f"{at} {y} l {end} {y} l" for at, y, end in steps])
        places = f"{size[0]:.5f} 0 0 {-size[1]:.5f} {left:.2f} {self.h - top:.2f}"
        self._out(f"q {places} cm 0 {axis} m\n{line}\n{ends[-1]} {axis} l f Q")

    def squares(self, rows: Sequence[Sequence[int]], left: float, top: float, size: float) -> None:
        """Fill the squares that are set in the rows of a code, which is so wide."""
        drawn = [f"{x} {y} 1 1 re" for y, row in enumerate(rows) for x, is_set in enumerate(row) if is_set]
        scale = f"{size / len(rows):.5f} 0 0 {-size / len(rows):.5f} {left:.2f} {self.h - top:.2f}"
        self._out(f"q 0 g {scale} cm\n" + "\n".join(drawn) + "\nf Q")
