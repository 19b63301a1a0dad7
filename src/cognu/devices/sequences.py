"""What a terminal can be shown once more: text, and of its control sequences those that make the screen and the modes.

A sequence that asks is answered as if the answer were typed, and what had asked may be long gone. Many ask, and ever
more; so those that stay are listed here, and all others are left out. What is in use: "XTerm Control Sequences"
(invisible-island.net), the documents of kitty and iTerm2. Their form: ECMA-48; how terminals read them: the parser of
vt100.net/emu/dec_ansi_parser. Terminals are taken to read UTF-8, in which a C1 control has two bytes.

A string that is left out (DCS, APC, PM, SOS, most OSC) goes as a whole, since none of it would be seen. Of what is no
whole sequence, only what begins it goes, and the rest is text. What the last bytes begin stays: the rest is to come.
"""

from __future__ import annotations

import re
from typing import Final

_STRING = rb"(?:[^\x07\x18\x1a\x1b\xc2]|\xc2(?![\x80-\x9f]))*"
_LONG_STRING = rb"(?:[^\x18\x1a\x1b\xc2]|\xc2(?![\x80-\x9f]))*"  # the bell does not end these
_SEQUENCES: Final = re.compile(
    rb"(?P<begun>"
    rb"\x1b[ -/]*\Z|(?:\x1b\[|\xc2\x9b)[ -?]*\Z|(?:\x1b\]|\xc2\x9d)" + _STRING + rb"\x1b?\Z"
    rb"|(?:\x1b[PX^_]|\xc2[\x90\x98\x9e\x9f])" + _LONG_STRING + rb"\x1b?\Z"
    rb")|(?P<whole>"
    rb"(?:\x1b\[|\xc2\x9b)[ -?]*[@-~]|(?:\x1b\]|\xc2\x9d)" + _STRING + rb"(?:\x07|\x1b\\|\xc2\x9c)?"
    rb"|(?:\x1b[PX^_]|\xc2[\x90\x98\x9e\x9f])" + _LONG_STRING + rb"(?:\x1b\\|\xc2\x9c)?"
    rb"|\x1b[ -/]*[0-~]"
    rb")|\x1b|\xc2[\x80-\x9f]"
)
_STAY: Final = re.compile(
    rb"\x1b\[(?:[0-9;:]*[@A-MPSXZ^`abdefghlmrsu]|[0-9]*T|\?[0-9;]*[hlJK]|[0-9]* q|!p|>[0-9;]*[mu]|[<=][0-9;]*u)"
    rb"|\x1b\](?:[01278]|133)(?:;[ -~\x80-\xff]*)?(?:\x07|\x1b\\)"  # titles, places, links, marks: any text
    rb"|\x1b\](?:[45]|1[0-9]|10[45]|11[0-9])(?:;[ ->@-~]*)?(?:\x07|\x1b\\)"  # colours, which `?` would ask for
    rb"|\x1b(?:[78=>DEHMNOcno|}~]|[()*+][0-9A-Z]|#[3-8]|%G)"
)
_TELLING: Final = (1004, 2048)
"""Private modes that some terminals answer to being set: with whether they have the focus, with their size."""


def _stays(sequence: bytes) -> bool:
    if _STAY.fullmatch(sequence) is None:
        return False
    modes = sequence[3:-1].split(b";") if sequence.startswith(b"\x1b[?") and sequence.endswith(b"h") else []
    return not any(mode.lstrip(b"0") in (b"%d" % telling for telling in _TELLING) for mode in modes)


def quiet(data: bytes) -> bytes:
    """`data` for a terminal, without what it might answer. Nothing is raised, whatever the bytes are."""
    data = data.replace(b"\x05", b"")  # ENQ, which is obeyed in the midst of a sequence too
    shown = bytearray()
    at = 0
    for found in _SEQUENCES.finditer(data):
        begin, end = found.span()
        shown += data[at:begin]
        at = end
        if found["begun"] is not None or (found["whole"] is not None and _stays(found[0])):
            shown += found[0]
        else:
            while shown.endswith(b"\xc2"):  # half a character, of which the next byte would make a C1 control
                shown.pop()
    return bytes(shown + data[at:])
