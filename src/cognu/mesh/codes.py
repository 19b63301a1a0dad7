"""The short codes that two machines pair by, as people type them and as a camera reads them.

A code is ten digits, shown as 27-4831-9052. The first two are no secret: they say which machine is meant where several
show a code, and discovery tells them to anybody. The other eight are chosen anew for each code. Whoever guesses has
`ATTEMPTS` guesses among 10 ** 8, since each takes an attempt from the machine that shows the code, so one code is
guessed with a chance of 3 in 100 million; that nobody can try them without asking that machine is what SPAKE2 is for
(spake.py). Digits and not words: they are typed on any keyboard, in any language, and told over any telephone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cognu.errors import E, FileError
from cognu.mesh.identity import ADDRESS_LENGTH, ADDRESS_LIMIT, bounded_texts
from cognu.world import Random

ATTEMPTS = 3
"""Wrong ones that end a code; each is counted before it is looked at."""
CODE_SECONDS = 120
NUMBER_DIGITS = 2
SECRET_DIGITS = 8
DIGITS = NUMBER_DIGITS + SECRET_DIGITS
OFFER = "cognu-pair:"
"""How the text of a QR code begins."""
OFFER_LIMIT = len(OFFER) + DIGITS + ADDRESS_LIMIT * (ADDRESS_LENGTH + 1)
"""Characters."""
_CODE = re.compile(r"[0-9]{10}")
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%]+[\w.-]*\]|[^\[\]:,@/\s]+):([0-9]{1,5})")


@dataclass(frozen=True)
class Code:
    """`digits` are all ten."""

    digits: str

    @property
    def number(self) -> str:
        """The part that is no secret."""
        return self.digits[:NUMBER_DIGITS]

    @property
    def text(self) -> str:
        """As people read it."""
        return f"{self.digits[:2]}-{self.digits[2:6]}-{self.digits[6:]}"

    def __repr__(self) -> str:
        return f"Code({self.number})"


def new_code(random: Random) -> Code:
    """64 bits for ten digits: some codes are likelier than others by less than one part in 10 ** 9."""
    return Code(f"{int.from_bytes(random.bytes(8), 'big') % 10**DIGITS:0{DIGITS}}")


def parse_code(text: str) -> Code:
    """Blanks and hyphens are as one likes. Raises `FileError(WRONGCODE)`, without what was typed."""
    digits = re.sub(r"[\s-]", "", text[:100])
    if not _CODE.fullmatch(digits):
        raise FileError(E.WRONGCODE, "pair", f"a code is {DIGITS} digits, as in 27-4831-9052")
    return Code(digits)


def attempts_left(left: int) -> str:
    """How many, as people are told."""
    if not left:
        return "no attempt is left"
    return f"{left} attempt{'s are' if left > 1 else ' is'} left"


def format_offer(code: Code, addresses: tuple[str, ...]) -> str:
    """What the QR code says: where, and the code. `addresses` as HOST:PORT."""
    return f"{OFFER}{code.digits}@{','.join(addresses)}"


def parse_offer(text: str) -> tuple[Code, tuple[str, ...]]:
    """The code and the addresses of a text that begins with `OFFER`. Raises `FileError`: NOTPAIRED, WRONGCODE."""
    digits, at, listed = text.strip().removeprefix(OFFER).partition("@")
    addresses = tuple(listed.split(","))
    sound = text.strip().startswith(OFFER) and len(text) <= OFFER_LIMIT and at and len(digits) == DIGITS
    if not sound or not bounded_texts(addresses, ADDRESS_LIMIT, ADDRESS_LENGTH):
        raise FileError(E.NOTPAIRED, "pair", "the text of the QR code is damaged")
    return parse_code(digits), tuple(check_address(address) for address in addresses)


def check_address(address: str) -> str:
    """The address, if it is HOST:PORT (IPv6 hosts in brackets). Raises `FileError(USAGE)`."""
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[2]) < 65536 or len(address) > ADDRESS_LENGTH:
        raise FileError(E.USAGE, address[:ADDRESS_LENGTH], "HOST:PORT, as the machine that shows the code says")
    return address
