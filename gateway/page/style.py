"""The page's style, ``page.css``: for a phone first, light and dark, without any external resource."""

import base64
import hashlib
from pathlib import Path

from commonwatt.look.palette import stylesheet

STYLE = f"{stylesheet()}\n{Path(__file__).with_name('page.css').read_text(encoding='utf-8')}"
"""Colours, sizes and places; widths of bars stand in the drawings, so that no style stands in an element."""

POLICY = (
    "default-src 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    + "'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""Content-Security-Policy: this style and the page's own forms, no script and nothing else."""
