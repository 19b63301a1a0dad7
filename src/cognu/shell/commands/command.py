"""What a command of the shell is, and how one is called: `--help`, options, number of operands, then its function."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from cognu.errors import E, FileError
from cognu.man import explanation
from cognu.shell.options import Options, parse_options
from cognu.shell.state import Call

ANY = 1 << 30
"""As many operands as one likes."""
USUAL_STATUS = "0; 1 if anything was refused; 2 if it was used wrongly"


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the table of commands.

    `options` lists letters and long names, with `=` after those that take a value, and may be None: then every argument
    is an operand. `operands` is the least and the greatest number of them. `mixed` false: options end at the first
    operand, because what follows belongs to a program; with `plain` they do if it is that, since what follows may begin
    with a dash. `status` is what the exit status says.
    """

    name: str
    run: Callable[[Call], Awaitable[int]]
    summary: str
    usage: str
    example: str
    options: tuple[str, ...] | None = ()
    operands: tuple[int, int] = (0, ANY)
    mixed: bool = True
    status: str = USUAL_STATUS
    plain: str = ""

    def help(self) -> str:
        """Summary, usage, what the manual's page says with its examples, and the exit status."""
        head = f"{self.name}: {self.summary}\nusage: {self.usage}\nexample: {self.example}"
        return f"{head}\n\n{explanation(self.name)}\n\nExit status: {self.status}."


def _parse(command: Command, arguments: Sequence[str], names: tuple[str, ...]) -> Options:
    if command.plain:
        options = parse_options(arguments, ("help", *names), mixed=False)
        if options.operands[:1] == [command.plain]:
            return options
    return parse_options(arguments, ("help", *names), command.mixed)


async def invoke(command: Command, call: Call) -> int:
    """Run a command of the shell. Raises `FileError`, for the shell to report; USAGE names the right usage."""
    arguments = call.argv[1:]
    if arguments == ("--help",):
        await call.print(command.help())
        return 0
    if command.options is None:
        options = Options(operands=list(arguments))
    else:
        options = _parse(command, arguments, command.options)
    if "help" in options:
        await call.print(command.help())
        return 0
    least, most = command.operands
    if not least <= len(options.operands) <= most:
        raise FileError(E.USAGE, "", command.usage)
    return await command.run(replace(call, options=options))
