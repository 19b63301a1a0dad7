"""QR codes for a terminal, two rows of modules to a line.

They are dark on light, with the margin that ISO/IEC 18004 asks for, whatever the terminal's own colours are: not every
reader takes a light one on dark, or one without a margin.
"""

from __future__ import annotations

QUIET = 4
"""Modules of margin on each side (ISO/IEC 18004, 5.3.8)."""
BRIGHT, PLAIN = "\x1b[97;40m", "\x1b[0m"
"""White on black: what is printed is light, what is left blank is dark."""


def drawn(text: str, columns: int, lines: int) -> list[str]:
    """The QR code of `text` (error correction L) as lines of a terminal; none if it has no room in that many."""
    import segno

    rows = [list(row) for row in segno.make(text, micro=False, error="l").matrix_iter(border=QUIET)]
    rows += [[0] * len(rows[0])] * (len(rows) % 2)
    if len(rows[0]) > columns or len(rows) // 2 > lines:
        return []
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return [BRIGHT + "".join("█▀▄ "[2 * bool(a) + bool(b)] for a, b in zip(*pair, strict=True)) + PLAIN
            for pair in pairs]  # fmt: skip
