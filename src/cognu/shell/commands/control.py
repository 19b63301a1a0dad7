"""Commands on the shell itself that POSIX calls special, and `read`, `local` and `history`."""

from __future__ import annotations

from cognu.errors import E, FileError
from cognu.shell.commands.reading import LONGEST_LINE, opened
from cognu.shell.lexer import is_name
from cognu.shell.options import parse_count
from cognu.shell.programs import MOST_SCRIPT
from cognu.shell.state import FAILED, Call, LoopExit, Return, decode
from cognu.shell.system import File, Positioned, is_terminal

BLOCK = 4096
"""Bytes read at once for a line, where what is beyond it can be given back."""


async def nothing(_call: Call) -> int:
    """`:`, whose arguments are expanded and no more."""
    return 0


def _levels(call: Call) -> int:
    levels = parse_count(call.operands[0]) if call.operands else 1
    if levels == 0:
        raise call.usage("a number of loops, 1 or more, is wanted", call.operands[0])
    if not call.shell.loops:
        raise call.usage("there is no loop around it")
    return min(levels, call.shell.loops)


async def leave_loop(call: Call) -> int:
    raise LoopExit(_levels(call), again=False)


async def next_round(call: Call) -> int:
    raise LoopExit(_levels(call), again=True)


async def leave_function(call: Call) -> int:
    """`return`: without a number the status is that of the last command."""
    status = parse_count(call.operands[0]) if call.operands else call.shell.status
    if status > 255:
        raise call.usage("a status is at most 255", call.operands[0])
    if not call.shell.returns:
        raise call.usage("there is no function or script to return from")
    raise Return(status)


async def shift(call: Call) -> int:
    count = parse_count(call.operands[0]) if call.operands else 1
    name, *arguments = call.shell.arguments
    if count > len(arguments):
        raise call.usage(f"there are {len(arguments)} arguments", str(count))
    call.shell.arguments = (name, *arguments[count:])
    return 0


_SWITCHES = {"e": "stops", "u": "strict"}


async def set_arguments(call: Call) -> int:
    """`set`: without operands the variables; options are `-e`, `-u` and `+` to undo them."""
    words = list(call.argv[1:])
    if not words:
        await call.print(*(f"{name}={call.shell.variables[name]}" for name in sorted(call.shell.variables)))
        return 0
    switches: list[tuple[str, bool]] = []
    while words and words[0][:1] in ("-", "+") and words[0] not in ("-", "--"):
        word = words.pop(0)
        if not word[1:] or set(word[1:]) - set(_SWITCHES):
            raise call.usage("set [-eu] [+eu] [--] [WORD...]", word)
        switches += [(letter, word[0] == "-") for letter in word[1:]]
    for letter, on in switches:
        setattr(call.shell, _SWITCHES[letter], on)
    explicit = words[:1] == ["--"]
    if words:
        call.shell.arguments = (call.shell.arguments[0], *words[explicit:])
    return 0


async def evaluate(call: Call) -> int:
    return await call.interpret(call, " ".join(call.operands))


async def source(call: Call) -> int:
    """`.`: a script in this same shell. A name without a slash is looked for in the working directory."""
    path, *arguments = call.operands
    text = bytearray()
    async with opened(call.system, path, "r") as file:
        while data := await file.read():
            text += data
            if len(text) > MOST_SCRIPT:
                raise FileError(E.TOOBIG, path, f"more than {MOST_SCRIPT} bytes")
    shell = call.shell
    before = shell.arguments
    if arguments:
        shell.arguments = (before[0], *arguments)
    shell.returns += 1
    try:
        return await call.interpret(call, decode(bytes(text)))
    except Return as returned:
        return returned.status
    finally:
        shell.returns -= 1
        if arguments:
            shell.arguments = before


async def local(call: Call) -> int:
    """Variables that get their values back when the function ends."""
    if not call.shell.kept:
        raise call.usage("there is no function around it")
    variables = call.shell.variables
    for operand in call.operands:
        name, equals, value = operand.partition("=")
        if not is_name(name):
            raise call.usage("the name of a variable is wanted", operand)
        call.shell.kept[-1].setdefault(name, variables.get(name))
        if equals:
            variables[name] = value
    return 0


async def read(call: Call) -> int:
    """`read`: 1 at the end of the input. No byte beyond the line is taken, for it belongs to the next command."""
    names = call.operands
    for name in names:
        if not is_name(name):
            raise call.usage("the name of a variable is wanted", name)
    raw = "r" in call.options
    line, ended = await read_line(call.streams.stdin, raw)
    rest = decode(line).strip(" \t")
    for name in names[:-1]:
        value, _, rest = _divided(rest)
        call.shell.variables[name] = value
    call.shell.variables[names[-1]] = rest
    return 0 if ended else FAILED


def _divided(text: str) -> tuple[str, str, str]:
    cut = min((text.index(blank) for blank in " \t" if blank in text), default=len(text))
    return text[:cut], text[cut : cut + 1], text[cut:].lstrip(" \t")


async def read_line(file: File, raw: bool) -> tuple[bytes, bool]:
    """A line without its newline, and whether it had one. Unless `raw`, a backslash keeps what follows it."""
    line = bytearray()
    escaped = False
    # A terminal gives one line at most; where there are positions, what is beyond the line can be given back; of
    # other files, only byte by byte nothing beyond it is taken.
    positioned = isinstance(file, Positioned) and await file.has_positions()
    count = LONGEST_LINE if is_terminal(file) else BLOCK if positioned else 1
    while data := await file.read(count):
        for at, byte in enumerate(data, 1):
            if escaped:
                line += b"" if byte == 10 else bytes([byte])
                escaped = False
            elif byte == 92 and not raw:
                escaped = True
            elif byte == 10:
                if isinstance(file, Positioned) and at < len(data):
                    file.step_back(len(data) - at)
                return bytes(line), True
            else:
                line.append(byte)
        if len(line) > LONGEST_LINE:
            raise FileError(E.LINETOOLONG, file.path)
    return bytes(line), False


async def history(call: Call) -> int:
    entries = call.shell.typed.entries
    count = parse_count(call.operands[0]) if call.operands else len(entries)
    first = max(0, len(entries) - count)
    # A text of several lines stays one entry to the eye: the others are moved in.
    shown = (text.replace("\n", "\n       ") for text in entries[first:])
    await call.print(*(f"{number:5}  {text}" for number, text in enumerate(shown, first + 1)))
    return 0
