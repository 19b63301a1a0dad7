"""SPAKE2 (M. Abdalla, D. Pointcheval, 2005; RFC 9382) on Ed25519's group, by the package `spake2`.

Two who know the same code come to the same key, and who does not learns one thing from each conversation: whether one
guess was right. docs/security.md says what was found in that package. Two of its gaps are closed here: it takes points
in more than one encoding, the neutral one among them, and what comes after a point's 32 bytes. What it calls by its own
errors is one refusal here. It is not written to take the same time for each code; who uses this answers after a fixed
time (`ANSWER_SECONDS`), so that nobody far away can measure it.
"""

from __future__ import annotations

from enum import Enum

from cognu.errors import E, Misuse, ProtocolError
from cognu.world import Random

ELEMENT_SIZE = 33
"""Bytes: the side's letter, and a point as RFC 8032 5.1.2 encodes it."""
ANSWER_SECONDS = 0.2
"""From an element to the answer to it, if the host is not too busy: some thirty times what the arithmetic takes."""
_FIELD = 2**255 - 19


class Side(Enum):
    """Who types the code, and who shows it."""

    TYPES = "A"
    SHOWS = "B"


class Exchange:
    """One side of one exchange, for one use. It forgets the code when it has the key."""

    def __init__(self, side: Side, code: str, random: Random) -> None:
        # Some 40 ms to import, and few commands pair.
        from spake2 import SPAKE2_A, SPAKE2_B

        kind = SPAKE2_A if side is Side.TYPES else SPAKE2_B
        # Both names are fixed: the transcript of joining covers who is who.
        self._exchange = kind(code.encode(), b"cognu 1 pair types", b"cognu 1 pair shows", entropy_f=random.bytes)
        self.element: bytes = self._exchange.start()
        """What the other side is to be told."""

    def __repr__(self) -> str:
        return "Exchange()"

    def key(self, element: bytes) -> bytes:
        """32 bytes, the same on both sides if the codes are the same; nothing else says whether they are.

        Raises `ProtocolError(BADFRAME)` for what is no element of the other side's: on no curve, of small order,
        outside of the group, neutral, written in another way than the one way, or one's own sent back.
        """
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            raise Misuse(E.INVAL, "pair", "an exchange is for one use")
        from spake2 import SPAKEError
        from spake2.ed25519_basic import NotOnCurve

        check_encoding(element)
        try:
            key = exchange.finish(element)
        except (SPAKEError, NotOnCurve, ValueError) as error:
            raise ProtocolError(E.BADFRAME, "pair", f"element: {type(error).__name__}") from None
        assert isinstance(key, bytes)
        return key

    def forget(self) -> None:
        """It won't be used."""
        self._exchange = None


def check_encoding(element: bytes) -> None:
    """Raises `ProtocolError(BADFRAME)` unless it is of the right size, and its y in the one form it has.

    y of 1 and -1 are the neutral point and that of order 2, the only ones whose x is 0 and thus has no sign.
    """
    if len(element) != ELEMENT_SIZE:
        raise ProtocolError(E.BADFRAME, "pair", f"an element of {len(element)} bytes")
    y = int.from_bytes(element[1:], "little") & (1 << 255) - 1
    if y >= _FIELD or y in (1, _FIELD - 1):
        raise ProtocolError(E.BADFRAME, "pair", "an element that is written in another way, or of small order")
