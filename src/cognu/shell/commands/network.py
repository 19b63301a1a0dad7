"""Commands on networks and on what other machines start: `dial`, `listen1`, `csquery`, `dnsquery`, `os`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace

from cognu.errors import CognuError, E, FileError, visible
from cognu.files.nstext import quote, split_words
from cognu.shell.commands.reading import chunks, lines, opened
from cognu.shell.network import NET, Conversation, announce, dial, listen, parse_number, translate
from cognu.shell.options import parse_count
from cognu.shell.state import Call, ExitShell, Streams, decode, encode, end_tasks
from cognu.shell.system import File

DIAL = "dial ADDRESS [COMMAND [ARG...]]"
LISTEN1 = "listen1 [-1] ADDRESS COMMAND [ARG...]"
OS = "os [-d DIRECTORY] [-m MOUNT] [-n NICE] NAME [ARG...]"
COMMANDS_MOUNT = "/cmd"
"""Where `os` looks, as os(1) of Inferno does."""
MOST_CALLS = 64
"""At a time, of one `listen1`; others wait."""
MOST_STATUS = 255
"""Of a process on a host."""


# -- calls ------------------------------------------------------------------------------------------------------------


async def dial_address(call: Call) -> int:
    """Connect the streams with what is dialled, or those of a command."""
    address, *command = call.operands
    async with _hung_up(await dial(call.system, address)) as (conversation, data):
        if command:
            return await _with(call, conversation, data, command)
        async with _sending(call.streams.stdin, data, lambda: conversation.tell("hangup write")):
            await _copied(data, call.streams.stdout)
        return 0


async def listen1(call: Call) -> int:
    """Start a command for each call, with the connection as its input and output; until Ctrl-C, or for one call."""
    address, *command = call.operands
    announced = await announce(call.system, address)
    running: dict[asyncio.Task[int], Conversation] = {}
    try:
        where = await announced.read("local")
        await call.streams.stderr.write(encode(f"{call.argv[0]}: calls are taken at {where}\n"))
        while True:
            conversation = await listen(announced)
            task = asyncio.create_task(_answer(call, conversation, command))
            running = {other: of for other, of in running.items() if not other.done()} | {task: conversation}
            if "1" in call.options:
                await asyncio.wait(running)
                return task.result()
            if len(running) >= MOST_CALLS:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    finally:
        try:
            await end_tasks(running)
        finally:
            for conversation in (*running.values(), announced):  # an answer that never began has closed nothing
                await _closed(conversation.ctl)


async def _answer(call: Call, conversation: Conversation, command: Sequence[str]) -> int:
    """One call, to its end. What it is refused is told; it ends no other."""
    try:
        async with _hung_up(conversation) as (_, data):
            return await _with(call, conversation, data, command)
    except CognuError as error:
        return await call.complain(error)


async def _with(call: Call, conversation: Conversation, data: File, command: Sequence[str]) -> int:
    """The status of a command, or of a text for the shell if it is one word, in a subshell that has the connection."""
    variables = {"net": conversation.directory, "remote": await conversation.read("remote")}
    shell = call.shell.copy()
    shell.variables.update(variables)
    of_it = replace(
        call, shell=shell, argv=tuple(command), streams=Streams(data, data, call.streams.stderr),
        environment=call.environment | variables, release=_nothing,
    )  # fmt: skip
    try:
        return await (call.interpret(of_it, command[0]) if len(command) == 1 else call.execute(of_it))
    except ExitShell as left:
        return left.status
    finally:
        await shell.end_jobs()


async def _nothing() -> None:
    """What the command was given is closed by who opened it."""


@asynccontextmanager
async def _hung_up(conversation: Conversation) -> AsyncIterator[tuple[Conversation, File]]:
    """A conversation and its data, which end together."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(conversation.close)
        data = await conversation.data()
        stack.push_async_callback(_closed, data)
        yield conversation, data


async def _closed(file: File) -> None:
    with suppress(CognuError):  # who reads was told
        await file.close()


@asynccontextmanager
async def _sending(source: File, target: File, end: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """What comes from `source` goes to `target` meanwhile, then `end`; where nobody takes it any more, no further."""

    async def send() -> None:
        with suppress(CognuError):
            await _copied(source, target)
            await end()

    task = asyncio.create_task(send())
    try:
        yield
    finally:
        await end_tasks([task])


# -- questions --------------------------------------------------------------------------------------------------------


async def csquery(call: Call) -> int:
    async def ask(address: str) -> list[str]:
        return [f"{way.clone} {way.address}" for way in await translate(call.system, address)]

    return await _questions(call, call.operands, ask)


async def dnsquery(call: Call) -> int:
    async def ask(question: str) -> Sequence[str]:
        words = question.split()
        try:
            return await call.system.ask(f"{NET}/dns", " ".join([*words, "ip"] if len(words) == 1 else words))
        except FileError as error:
            raise FileError(error.error, question, error.detail) from None

    return await _questions(call, [" ".join(call.operands)] if call.operands else [], ask)


async def _questions(call: Call, questions: Sequence[str], ask: Callable[[str], Awaitable[Sequence[str]]]) -> int:
    """Print the answers to each question, or if there are none to each line of the input."""

    async def answer(question: str) -> None:
        await call.print(*(visible(line.rstrip("\n")) for line in await ask(question)))

    if questions:
        return await call.each(questions, answer)
    return await call.each([decode(line).strip() async for line in lines(call.streams.stdin) if line.strip()], answer)


# -- commands of a host -----------------------------------------------------------------------------------------------


async def os(call: Call) -> int:
    """Start what a machine's owner named for that, with these streams (cmd(3)); its status."""
    mount, nice, directory = (call.options.value(letter) for letter in "mnd")
    name, *arguments = call.operands
    if "/" in name or name in ("", ".", ".."):
        raise call.usage("a name is wanted, as the machine's owner gave it; -m says where they are", name)
    at = f"{mount or COMMANDS_MOUNT}/{name}"
    system = call.system
    async with opened(system, f"{at}/clone", "rw") as ctl, AsyncExitStack() as stack:
        number = parse_number(f"{at}/clone", decode(await ctl.read()))
        await ctl.write(b"killonclose")
        if nice is not None:
            await ctl.write(f"nice {parse_count(nice)}".encode())
        if directory is not None:
            await ctl.write(encode(f"dir {quote(directory)}"))
        out, errors = [await stack.enter_async_context(opened(system, f"{at}/{number}/{each}", "r"))
                       for each in ("data", "stderr")]  # fmt: skip
        given = await system.open(f"{at}/{number}/data", "w")
        stack.push_async_callback(_closed, given)
        await ctl.write(encode(" ".join(map(quote, ["exec", *arguments]))))
        async with _sending(call.streams.stdin, given, given.close):
            both = [asyncio.create_task(_copied(*pair))
                    for pair in ((out, call.streams.stdout), (errors, call.streams.stderr))]  # fmt: skip
            try:
                await asyncio.gather(*both)
            finally:
                await end_tasks(both)
            async with opened(system, f"{at}/{number}/wait", "r") as waiting:
                message, status = parse_wait(f"{at}/{number}/wait", decode(await waiting.read()))
        if message.startswith("signal "):  # what its limits did to it, or somebody else
            await call.streams.stderr.write(encode(f"{call.argv[0]}: {name}: {message}\n"))
        return status


def parse_wait(path: str, text: str) -> tuple[str, int]:
    """(what ended it, its exit status) of cmd(3)'s wait file at `path`. Raises BADMESSAGE for what is none."""
    try:
        _, _, _, _, message, word = split_words(text)
        status = parse_count(word)
        if status > MOST_STATUS:
            raise ValueError(word)
    except (ValueError, FileError):
        raise FileError(E.BADMESSAGE, path, "it does not say how the command ended") from None
    return message, status


async def _copied(source: File, target: File) -> None:
    async for piece in chunks(source):
        await target.write(piece)
